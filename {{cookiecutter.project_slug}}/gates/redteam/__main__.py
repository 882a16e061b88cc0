"""`python -m gates.redteam`: AgentDojo's attacks against this service's guard, without a language model.

Exit 0 when no attack succeeds and the service stays useful, 1 when a bound is missed, 2 when it cannot be judged.
"""

import json
import sys
from datetime import UTC, datetime
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from app.telemetry.logs import configure_logs
from gates import evidence, subject
from gates.redteam import screen
from gates.redteam.effects import Unclassified
from gates.redteam.verdict import Result, as_json

FILE = evidence.FILE.with_name("agentdojo.json")
PART = FILE.with_name("part-agentdojo.json")  # a part, or no guard: what was found on the whole stays as it is
CANNOT_JUDGE = 2


def main(
    suite: Annotated[list[str] | None, typer.Option(help="Only this suite; can be repeated.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Only every Nth task and pair.")] = 1,
    without_guard: Annotated[bool, typer.Option("--without-guard", help="Cut the guard out.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here.")] = None,
) -> None:
    """Replay the users' calls and then the attackers' of AgentDojo through the real guard."""
    if find_spec("agentdojo") is None:
        screen.cannot_judge("agentdojo is not installed here; run: make redteam")
        sys.exit(CANNOT_JUDGE)
    configure_logs("error")
    try:
        result, policy = _play(tuple(suite or ()), every, without_guard=without_guard)
    except (Unclassified, LookupError) as error:
        screen.cannot_judge(str(error))
        sys.exit(CANNOT_JUDGE)
    except KeyboardInterrupt:
        screen.cannot_judge("interrupted; nothing was written")
        sys.exit(CANNOT_JUDGE)
    file = json_file or (FILE if result.complete and not without_guard else PART)
    _write(file, result, policy)
    screen.show(result, file)
    sys.exit(result.exit_code)


def _play(suites: tuple[str, ...], every: int, *, without_guard: bool) -> tuple[Result, str | None]:
    from gates.redteam import replay  # noqa: PLC0415 - agentdojo is installed by `make redteam` only

    selection = replay.Selection(suites, every)
    tasks, pairs = selection.jobs()
    if without_guard:
        with screen.progress(len(pairs)) as advance:
            return replay.replay_unguarded(pairs, selection, advance), None
    with screen.progress(len(tasks) + len(pairs)) as advance:
        return replay.replay(tasks, pairs, selection, advance)


def _write(file: Path, result: Result, policy: str | None) -> None:
    named: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "subject": subject.current().as_dict(),
        "policy_version": policy,
        "versions": {"python": sys.version.split()[0], "agentdojo": metadata.version("agentdojo")},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**named, **as_json(result)}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
