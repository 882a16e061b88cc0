"""`make compatible`: the API as it is against the contract that was released. `make released` writes that contract.

A change that breaks a client of the released contract is refused, unless the major version of `config/contract.toml`
says so. The rules, and why: docs/decisions/template/0014-a-released-contract.md
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.entrypoints.web import create_app
from app.settings import ROOT, load_settings
from gates.compatibility.operations import Breaking, breaking
from gates.compatibility.schemas import Change
from gates.compatibility.shapes import Unreadable
from gates.rig.environment import isolate

FILE = ROOT / "openapi.released.json"
typer_app = typer.Typer(add_completion=False)


@typer_app.command()
def main(
    file: Annotated[Path, typer.Option(help="The released contract.")] = FILE,
    release: Annotated[bool, typer.Option(help="Write the present contract there, if nothing breaks.")] = False,
) -> None:
    """Compare; exit 1 on a breaking change without a new major version, 2 where that cannot be judged."""
    isolate()
    present = create_app(load_settings(environment="test")).openapi()
    try:
        holds = _judged(file, present)
    except (Unreadable, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"compatible: {file.name} cannot be compared: {type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    if not holds:
        raise SystemExit(1)
    if release:
        file.write_text(json.dumps(present, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"released: wrote {file.name}, version {present['info']['version']}; commit it with the release")


def _judged(file: Path, present: Mapping[str, Any]) -> bool:
    """Say what breaks; whether that may be released."""
    if not file.exists():
        print(
            f"compatible: nothing is released yet; `make released` writes {file.name}, and later changes are held to it"
        )
        return True
    released = json.loads(file.read_text(encoding="utf-8"))
    before, now = released["info"]["version"], present["info"]["version"]
    found = _gathered(breaking(released, present))
    for change, broken in found.items():
        print(_line(change, broken))
    raised = _major(now) > _major(before)
    count = f"{len(found)} breaking change{'s' if len(found) > 1 else ''} since {before}"
    if not found:
        print(f"compatible: ok, with {before}")
    elif raised:
        print(f"compatible: {count}, and {now} says so")
    else:
        next_one = f"{_major(before) + 1}.0.0"
        print(
            f'compatible: {count}. Do what is allowed instead, or say version = "{next_one}" in config/contract.toml',
            file=sys.stderr,
        )
    return raised or not found


def _gathered(found: list[Breaking]) -> dict[Change, list[Breaking]]:
    """One schema is met by many operations: said once, with the first of them."""
    gathered: defaultdict[Change, list[Breaking]] = defaultdict(list)
    for each in found:
        gathered[each.change].append(each)
    return gathered


def _line(change: Change, broken: list[Breaking]) -> str:
    first, more = broken[0], len({each.operation for each in broken}) - 1
    others = f" and {more} more" if more else ""
    where = f", {first.where}" if first.where else ""
    return f"✘ {first.operation}{others}{where}: {change.what}\n  at {change.pointer} · allowed: {change.allowed}"


def _major(version: str) -> int:
    return int(version.partition(".")[0])


if __name__ == "__main__":
    typer_app()
