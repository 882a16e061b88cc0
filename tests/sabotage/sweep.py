"""The sabotage sweep: every control is cut out of a running service, and its proof must notice for the named reason.

    python -m tests.sabotage.sweep            all patches; gates/sabotage.json becomes what was caught
    python -m tests.sabotage.sweep SEC-02     the patches of one control
    python -m tests.sabotage.sweep --changed  those whose record is not of this code; renews these
    python -m tests.sabotage.sweep --every 5  a fifth, another one on every commit, if the record of all is fresh

One service is rendered and set up. Its proofs must all hold as it is, since a proof that fails anyway notices
nothing. Then each patch goes into a copy of its own, and the proofs of its control run there. A planted proof that is
always green must be reported as one that noticed nothing, or the sweep does not believe itself.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from cookiecutter.main import cookiecutter
from rich.console import Console
from rich.table import Table

from tests.sabotage.patches import PLANTED, Patch, PatchInvalid, chosen, load

TEMPLATE = Path(__file__).resolve().parent.parent.parent
SOURCE = TEMPLATE / "{{cookiecutter.project_slug}}"
JOBS = 3  # a proof mostly waits for its service
LIMIT_SECONDS = 300  # for the proofs of one control
LIMIT_OF_ALL = 1_500
LEFT_OUT = shutil.ignore_patterns(".venv", ".uv", ".git", ".gates", ".mypy_cache", "data")
Verdict = Literal["caught", "SURVIVED", "WRONG REASON", "INVALID"]
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


@dataclass(frozen=True)
class Result:
    patch: Patch
    verdict: Verdict
    seconds: float
    told: str = ""
    proofs: tuple[str, ...] = ()  # the files whose proofs noticed


def main(
    wanted: Annotated[str, typer.Argument(help="A control such as SEC-02, or one patch; all without it.")] = "",
    every: Annotated[int, typer.Option(min=1, help="Only every Nth patch, chosen anew by each commit.")] = 1,
    changed: Annotated[
        bool, typer.Option(help="Only patches that, or what they cut, changed since the record.")
    ] = False,
) -> None:
    """Cut controls out of a service, and require that their proofs notice."""
    try:
        raise SystemExit(_main(wanted, every, changed))
    except PatchInvalid as error:
        out.print(f"[red]{error}[/]")
        raise SystemExit(2) from None


def _main(wanted: str, every: int, changed: bool) -> int:
    patches = chosen(load(), wanted)
    with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
        workshop = Path(folder)
        workshop.chmod(0o755)
        project = _ready(workshop)
        if every > 1:
            stale = _stale(project, patches)
            if stale:
                out.print(
                    f"[red]gates/sabotage.json is stale ({stale}): run make sabotage and commit what it writes.[/]"
                )
                return 1
            patches = _drawn(patches, every)
        machinery = _machinery(project)
        kept = _still_shown(patches, machinery) if changed else []
        patches = [patch for patch in patches if patch.name not in {kill["patch"] for kill in kept}]
        if not patches:
            return _nothing_to_try(wanted, machinery, kept)
        # A part is tried after `make test`, which has just proven everything on the service as it is.
        broken = _baseline(project, sorted({patch.control for patch in patches})) if every == 1 else ""
        if broken:
            out.print(f"[red]The untouched service does not hold:[/]\n{broken}")
            return 1
        results = _sweep(project, workshop, patches)
        honest = _planted(project, workshop)
    _show(results)
    if not honest:
        out.print("[red]A planted proof that is always green was not reported: this sweep shows nothing.[/]")
        return 1
    out.print("The planted proof that is always green was reported, as it must be.")
    if not wanted and every == 1:  # without those that were not caught the record is stale: --changed tries them again
        _record([result for result in results if result.verdict == "caught"], machinery, kept)
    return int(any(result.verdict != "caught" for result in results))


def _nothing_to_try(wanted: str, machinery: str, kept: Sequence[dict[str, Any]]) -> int:
    out.print("Nothing to try: what the record says of each patch is of this very code.")
    if not wanted:
        _record([], machinery, kept)  # a patch that is gone leaves it
    return 0


def _ready(workshop: Path) -> Path:
    project = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(workshop)))
    environment = os.environ | {"PATH": os.pathsep.join([str(TEMPLATE / ".uv" / "bin"), os.environ["PATH"]])}
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    return project


def _stale(project: Path, patches: Sequence[Patch]) -> str:
    """Why the committed record of sabotages does not speak of this very code; empty when it does."""
    kills = json.loads((SOURCE / "gates" / "sabotage.json").read_text())["kills"]
    others = {(kill["patch"], kill["cut"]) for kill in kills} ^ {(patch.name, _sha256(patch.file)) for patch in patches}
    if others:
        return f"other patches: {', '.join(sorted({name for name, _ in others})[:5])}"
    code = (
        "from gates.catalogue import Catalogue; from gates.sabotage import Kills; kills = Kills.load();"
        "proven = [c.id for c in Catalogue.load().controls.values() if c.assertions];"
        "print('; '.join(filter(None, map(kills.caught, proven))))"
    )
    command = [str(project / ".venv/bin/python"), "-c", code]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def _still_shown(patches: Sequence[Patch], machinery: str) -> list[dict[str, Any]]:
    """What the record says of patches that, like all they cut and the proofs that noticed, are as they were then."""
    record = json.loads((SOURCE / "gates" / "sabotage.json").read_text())
    if record["machinery"] != machinery:
        return []
    cuts = {patch.name: _sha256(patch.file) for patch in patches}
    return [
        kill
        for kill in record["kills"]
        if cuts.get(kill["patch"]) == kill["cut"]
        and all((SOURCE / name).is_file() and _sha256(SOURCE / name) == sha for name, sha in kill["files"].items())
    ]


def _drawn(patches: Sequence[Patch], every: int) -> list[Patch]:
    """A part of the patches that a commit cannot choose: over many commits each has its turn."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=TEMPLATE, capture_output=True, text=True, check=False)
    lot = {patch.name: hashlib.sha256(f"{head.stdout}{patch.name}".encode()).hexdigest() for patch in patches}
    return sorted(patches, key=lambda patch: lot[patch.name])[: -(-len(patches) // every)]


def _baseline(project: Path, controls: Sequence[str]) -> str:
    """Run the proofs of these controls on the service as it is; returns what does not hold."""
    started = time.monotonic()
    records, last_words = _prove(project, project, controls, "-n", str(JOBS + 1), limit=LIMIT_OF_ALL)
    seconds = time.monotonic() - started
    if not records:
        return last_words
    out.print(f"The untouched service: {len(records)} proofs of {len(controls)} controls in {seconds:.0f} s.")
    return "\n".join(f"{r['proof']}: {r['status']} {r['assertion']} {r['detail']}" for r in records if _failed(r))


def _prove(
    project: Path, copy: Path, controls: Sequence[str], *arguments: str, limit: int = LIMIT_SECONDS
) -> tuple[list[dict[str, Any]], str]:
    """Run the fast proofs of these controls in a copy, with the project's environment; (records, last words)."""
    evidence = copy / "sabotage-evidence.jsonl"
    command = [str(project / ".venv/bin/python"), "-m", "pytest", "-p", "gates.plugin", "gates", "-q", "--fast"]
    command += [f"--evidence={evidence}", *(f"--control={control}" for control in controls), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(copy)
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return [], f"not finished after {limit} s"
    records = [json.loads(line) for line in evidence.read_text().splitlines()] if evidence.exists() else []
    return records, done.stdout[-1500:]


def _sweep(project: Path, workshop: Path, patches: Sequence[Patch]) -> list[Result]:
    with ThreadPoolExecutor(JOBS) as pool:
        results = []
        for result in pool.map(lambda patch: _try(project, workshop, [patch]), patches):
            results.append(result)
            mark = "[green]✔[/]" if result.verdict == "caught" else "[red]✘[/]"
            out.print(f"  {mark} {result.patch.name} [dim]{result.verdict}, {result.seconds:.0f} s {result.told}[/]")
    return results


def _planted(project: Path, workshop: Path) -> bool:
    """Cut a control and gut its proof as well: an honest sweep says that nobody noticed."""
    [hollow] = load(PLANTED)
    cut = next(patch for patch in load() if (patch.control, patch.assertion) == (hollow.control, hollow.assertion))
    return _try(project, workshop, [hollow, cut]).verdict == "SURVIVED"


def _try(project: Path, workshop: Path, patches: Sequence[Patch]) -> Result:
    patch = patches[-1]
    copy = workshop / "copies" / "-".join(p.name for p in patches)
    started = time.monotonic()
    shutil.copytree(project, copy, symlinks=True, ignore=LEFT_OUT)
    try:
        for each in patches:
            each.apply(copy)
        records, last_words = _prove(project, copy, [patch.control], "-k", f"{patch.proof} and not on_postgresql")
    except PatchInvalid as error:
        return Result(patch, "INVALID", 0, str(error))
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    verdict, told = _verdict(patch, records, last_words)
    noticed = {r["proof"].partition("::")[0] for r in records if r["assertion"] == patch.assertion}
    return Result(patch, verdict, time.monotonic() - started, told, tuple(sorted(noticed)))


def _verdict(patch: Patch, records: Sequence[dict[str, Any]], last_words: str) -> tuple[Verdict, str]:
    failed = [record for record in records if _failed(record)]
    if not records:
        return "WRONG REASON", f"no proof ran: {last_words[-300:]}"
    if not failed:
        return "SURVIVED", "every proof still holds"
    # The service must have started and done its legitimate work; then the named assertion must have failed.
    astray = [r for r in failed if r["status"] != "FAIL" or not r["positive"] or not r["assertion"]]
    if astray:
        return "WRONG REASON", f"{astray[0]['status']} {astray[0]['assertion']}: {astray[0]['detail'][:200]}"
    if patch.assertion not in {record["assertion"] for record in failed}:
        return "WRONG REASON", f"{failed[0]['assertion']} failed: {failed[0]['detail'][:200]}"
    return "caught", ""


def _failed(record: dict[str, Any]) -> bool:
    return record["status"] not in {"PASS", "N/A"}


def _show(results: Sequence[Result]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "patch", "assertion", "verdict", "seconds", "cuts"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for result in results:
        patch, style = result.patch, "green" if result.verdict == "caught" else "bold red"
        verdict = f"[{style}]{result.verdict}[/]"
        table.add_row(patch.control, patch.name, patch.assertion, verdict, f"{result.seconds:.0f}", patch.cuts)
    out.print(table)
    for result in results:
        if result.verdict != "caught":
            out.print(f"[red]{result.patch.name}: {result.verdict}[/] {result.told}", soft_wrap=True)
    caught = sum(result.verdict == "caught" for result in results)
    controls = len({result.patch.control for result in results})
    out.print(f"{caught} of {len(results)} sabotages of {controls} controls were caught for their named reason.")


def _machinery(project: Path) -> str:
    """The service's own digest of what all its proofs stand on."""
    code = "from gates.sabotage import machinery; print(machinery())"
    command = [str(project / ".venv/bin/python"), "-c", code]
    return subprocess.run(command, cwd=project, check=True, capture_output=True, text=True).stdout.strip()


def _record(results: Sequence[Result], machinery: str, kept: Sequence[dict[str, Any]]) -> None:
    """Renew gates/sabotage.json: what was caught, for which files. It changes only when they do."""
    caught = [
        {
            "control": result.patch.control,
            "patch": result.patch.name,
            "assertion": result.patch.assertion,
            "proof": result.patch.proof,
            "cut": _sha256(result.patch.file),
            "files": {name: _sha256(SOURCE / name) for name in sorted({*result.patch.touches, *result.proofs})},
        }
        for result in results
    ]
    kills = sorted([*kept, *caught], key=lambda kill: str(kill["patch"]))
    target = SOURCE / "gates" / "sabotage.json"
    text = json.dumps({"machinery": machinery, "kills": kills}, indent=1) + "\n"
    if not target.exists() or target.read_text() != text:
        target.write_text(text)
        out.print("gates/sabotage.json was renewed: commit it.")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    typer.run(main)
