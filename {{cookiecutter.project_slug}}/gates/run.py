"""Running the proofs as a pytest process, with their progress shown while it works."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2

from app.entrypoints.proxies import exempt_loopback
from gates import evidence, screen
from gates.catalogue import ROOT, Gate
from gates.evidence import Record

LOG = evidence.FILE.with_name("proofs.log")
REMOTE = evidence.FILE.with_name("remote.jsonl")
LIMIT_SECONDS = 15_000  # ten times what they take on two cores: it ends what hangs
ENDING_SECONDS = 30
WORKERS = 4  # on two cores too: a proof mostly waits for its service
NOTHING_SELECTED = 5  # pytest's exit code


class ProofsBroken(Exception):
    """The proofs could not be run at all; the message says where to look."""


@dataclass(frozen=True)
class Selection:
    gates: tuple[Gate, ...]
    fast: bool = False
    url: str = ""
    complete: bool = True  # every proof runs: earlier evidence is put aside

    @property
    def cases(self) -> int:
        """How many cases the catalogue asks of these gates: what the progress bar counts to."""
        return sum(control.cases for gate in self.gates for control in gate.control)

    def command(self, file: Path) -> list[str]:
        chosen = [c.id for gate in self.gates for c in gate.control if c.assertions]
        command = [sys.executable, "-m", "pytest", "-p", "gates.plugin", "gates", "--evidence", str(file), "-q"]
        command += [f"--control={name}" for name in chosen or ["none"]]
        command += ["--fast"] if self.fast else []
        return [*command, f"--remote={self.url}"] if self.url else [*command, "-n", str(WORKERS), "--dist", "load"]


def proofs(selection: Selection) -> list[Record]:
    """Run them and return their records. Raises ProofsBroken when pytest itself failed."""
    exempt_loopback()
    if selection.url and not os.environ.get("GATES_KEY"):
        raise ProofsBroken("GATES_KEY is not set: an API key of that service whose member may read and start runs")
    if selection.url:
        _require_answer(selection.url, os.environ["GATES_KEY"])
    file = REMOTE if selection.url else evidence.FILE
    file.parent.mkdir(exist_ok=True)
    if file.exists() and (selection.complete or selection.url):
        file.replace(file.with_suffix(".previous.jsonl"))
    earlier = len(evidence.read(file))
    try:
        with LOG.open("w") as log, _process(selection.command(file), log.fileno()) as process:
            code = _follow(process, selection, file, earlier)
    except KeyboardInterrupt:
        raise ProofsBroken("interrupted; what was proven until then is kept (python -m gates score)") from None
    if code == NOTHING_SELECTED and selection.url:
        raise ProofsBroken("no proof of these gates works over HTTP alone; those of access, validation, errors do")
    if code not in {0, 1, NOTHING_SELECTED}:
        raise ProofsBroken(f"the proofs did not run; {LOG.relative_to(ROOT)} ends with:\n{_tail()}")
    return evidence.read(file)[earlier:]


def _require_answer(url: str, key: str) -> None:
    """Say plainly what would otherwise look like failed controls."""
    headers = {"Authorization": f"Bearer {key}"}
    try:
        status = httpx2.get(f"{url.rstrip('/')}/v1/runs?limit=1", headers=headers, timeout=15).status_code
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise ProofsBroken(f"nothing answers at {url} ({type(error).__name__})") from None
    if status != 200:
        raise ProofsBroken(f"{url} answers {status} to GATES_KEY: it needs the key of a member who may read runs")


@contextmanager
def _process(command: list[str], log: int) -> Iterator[subprocess.Popen[bytes]]:
    # In a session of its own, so that Ctrl-C reaches it once and through us: it then stops the services it started.
    process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:  # interrupted, or out of time
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(ENDING_SECONDS)
        with suppress(ProcessLookupError):  # whatever a proof that was cut off has left behind
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _follow(process: subprocess.Popen[bytes], selection: Selection, file: Path, earlier: int) -> int:
    wanted = {c.id: c.cases for gate in selection.gates for c in gate.control}
    seen: Counter[str] = Counter()
    shown = earlier
    until = time.monotonic() + LIMIT_SECONDS
    with screen.progress(selection.cases) as bar:
        while True:
            code = process.poll()
            for record in evidence.read(file)[shown:]:
                shown += 1
                bar.proof(record)
                seen[record.control] += record.cases
            bar.at(sum(min(count, wanted.get(name, 0)) for name, count in seen.items()))
            if code is not None:
                return code
            if time.monotonic() > until:
                raise ProofsBroken(f"the proofs took longer than {LIMIT_SECONDS} s; see {LOG.relative_to(ROOT)}")
            time.sleep(0.2)


def _tail() -> str:
    return "\n".join(LOG.read_text(errors="replace").splitlines()[-15:])
