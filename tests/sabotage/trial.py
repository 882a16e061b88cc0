"""One trial: a patched copy of a rendered service, its proofs run there, and what their evidence says of the patch."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cookiecutter.main import cookiecutter

from tests.sabotage.patches import Patch, PatchInvalid
from tests.sabotage.plan import TEMPLATE

WORKERS = 4  # on two cores too: a proof mostly waits for its service
# Ten times what they take on two cores: they end what hangs, and judge nothing.
LIMIT_SECONDS = 3_000  # for the proofs of one control
LIMIT_OF_ALL = 15_000
DID_NOT_END = "the proofs did not end"
OUT_OF_TIME = "OutOfTime"  # how the service's plugin names a proof that could not judge, in the detail of its record
LEFT_OUT = shutil.ignore_patterns(".venv", ".uv", ".git", ".gates", ".mypy_cache", "data")
Verdict = Literal["caught", "SURVIVED", "WRONG REASON", "INVALID", "NOT JUDGED"]


@dataclass(frozen=True)
class Result:
    patch: Patch
    verdict: Verdict
    seconds: float
    told: str = ""
    proofs: tuple[str, ...] = ()  # `file::test` of those that noticed


def ready(workshop: Path) -> Path:
    project = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(workshop)))
    environment = os.environ | {"PATH": os.pathsep.join([str(TEMPLATE / ".uv" / "bin"), os.environ["PATH"]])}
    command = ["make", "setup", f"PYTHON={sys.executable}"]
    subprocess.run(command, cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    return project


def baseline(project: Path, controls: Sequence[str]) -> tuple[str, str]:
    """Run the proofs of these controls on the service as it is; (what was run, what does not hold)."""
    started = time.monotonic()
    records, last_words = _prove(project, project, controls, "-n", str(WORKERS), limit=LIMIT_OF_ALL)
    seconds = time.monotonic() - started
    if not records:
        return "", last_words or "no proof ran"
    ran = f"The untouched service: {len(records)} proofs of {len(controls)} controls in {seconds:.0f} s."
    return ran, "\n".join(f"{r['proof']}: {r['status']} {r['assertion']} {r['detail']}" for r in records if _failed(r))


def _prove(
    project: Path,
    copy: Path,
    controls: Sequence[str],
    *arguments: str,
    within: Sequence[str] = ("gates",),
    limit: int = LIMIT_SECONDS,
) -> tuple[list[dict[str, Any]], str]:
    """Run the fast proofs of these controls in a copy, with the project's environment; (records, last words).

    `within`: files or folders of proofs; to read them all takes as long as most proofs do."""
    evidence = copy / "sabotage-evidence.jsonl"
    command = [str(project / ".venv/bin/python"), "-m", "pytest", "-p", "gates.plugin", *within, "-q", "--fast"]
    command += [f"--evidence={evidence}", *(f"--control={control}" for control in controls), *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(copy)
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired:
        return [], DID_NOT_END
    records = [json.loads(line) for line in evidence.read_text().splitlines()] if evidence.exists() else []
    return records, (done.stdout + done.stderr)[-1500:]


def _files_with(proof: str, copy: Path) -> list[str]:
    files = [file for file in sorted((copy / "gates").glob("test_*.py")) if f"def {proof}(" in file.read_text()]
    return [str(file.relative_to(copy)) for file in files] or ["gates"]


def attempt(project: Path, workshop: Path, patches: Sequence[Patch]) -> Result:
    patch = patches[-1]
    copy = workshop / "copies" / "-".join(p.name for p in patches)
    started = time.monotonic()
    shutil.copytree(project, copy, symlinks=True, ignore=LEFT_OUT)
    try:
        for each in patches:
            each.apply(copy)
        only = ("-k", f"{patch.proof} and not on_postgresql")
        records, last_words = _prove(project, copy, [patch.control], *only, within=_files_with(patch.proof, copy))
    except PatchInvalid as error:
        return Result(patch, "INVALID", 0, str(error))
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    judged, told = verdict(patch, records, last_words)
    noticed = {r["proof"].partition("[")[0] for r in records if r["assertion"] == patch.assertion}
    return Result(patch, judged, time.monotonic() - started, told, tuple(sorted(noticed)))


def verdict(patch: Patch, records: Sequence[dict[str, Any]], last_words: str) -> tuple[Verdict, str]:
    """What the records of a patched copy say. NOT JUDGED: the time ran out, which says nothing of the proof."""
    failed = [record for record in records if _failed(record)]
    if last_words == DID_NOT_END or (failed and all(map(_out_of_time, failed))):
        return "NOT JUDGED", last_words if last_words == DID_NOT_END else failed[0]["detail"][:200]
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


def _out_of_time(record: dict[str, Any]) -> bool:
    return record["status"] == "ERROR" and str(record["detail"]).startswith(OUT_OF_TIME)
