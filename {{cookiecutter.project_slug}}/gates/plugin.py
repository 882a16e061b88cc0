"""The pytest plugin that turns outcomes of proofs into evidence, vacuous ones included.

Loaded by `python -m gates` with `-p gates.plugin`. Workers hand what a proof saw to the controlling process in
the report's properties; only that process writes.
"""

import hashlib
import json
import platform
import subprocess
from collections.abc import Generator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import httpx2
import pytest

from gates import evidence, subject
from gates.catalogue import Catalogue
from gates.evidence import Record
from gates.proof import NotPositive, Proof, Refuted
from gates.rig import driven
from gates.rig.environment import isolate
from gates.rig.pace import OutOfTime

PROPERTY = "gate-proof"
DRIVEN = pytest.StashKey[int]()
NO_CONTROL = pytest.Mark("control", ("(none)",), {"cases": 0, "attempts": 1, "slow": False})
_versions = {"python": platform.python_version(), **{name: version(name) for name in ("pytest", "fastapi", "pydantic")}}


class NotAProof(Exception):
    """A test among the proofs that proves nothing of the catalogue."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gates")
    group.addoption("--evidence", default=str(evidence.FILE), help="append evidence records to this file")
    group.addoption("--control", action="append", default=[], help="only proofs of this control")
    group.addoption("--fast", action="store_true", help="leave out slow proofs")
    group.addoption("--remote", default="", help="only proofs that need nothing but HTTP, against this address")


def pytest_configure(config: pytest.Config) -> None:
    isolate()
    config.addinivalue_line(
        "markers", "control(name, cases, attempts, slow): a proof of a control of gates/controls.toml"
    )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Writer(Path(config.getoption("--evidence"))))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("control")
    if marker and marker.kwargs["attempts"] > 1:
        metafunc.fixturenames.append("attempt")
        metafunc.parametrize("attempt", range(1, marker.kwargs["attempts"] + 1))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        marker = item.get_closest_marker("control")
        (kept if marker is None or _wanted(config, item, marker) else left).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


def _wanted(config: pytest.Config, item: pytest.Item, marker: pytest.Mark) -> bool:
    controls = config.getoption("--control")
    fixtures = getattr(item, "fixturenames", [])
    return (
        (not controls or marker.args[0] in controls)
        and not (config.getoption("--fast") and marker.kwargs["slow"])
        and (not config.getoption("--remote") or ("target" in fixtures and "world" not in fixtures))
    )


@pytest.fixture
def proof() -> Proof:
    return Proof()


@pytest.hookimpl(tryfirst=True)  # before its fixtures, which may start a service
def pytest_runtest_setup(item: pytest.Item) -> None:
    item.stash[DRIVEN] = driven.count()
    marker = item.get_closest_marker("control")
    if marker is None or marker.args[0] not in Catalogue.load().controls:
        raise NotAProof("every test in gates/ proves a control of gates/controls.toml")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when != "call" and report.passed:
        return report
    marker = item.get_closest_marker("control") or NO_CONTROL
    seen: Proof = getattr(item, "funcargs", {}).get("proof") or Proof()
    status, assertion, detail = _verdict(item, report, call, seen, marker.kwargs["cases"])
    if status == "FAIL" and report.passed:
        report.outcome, report.longrepr = "failed", f"{marker.args[0]} {assertion}: {detail}"
    attempt = getattr(getattr(item, "callspec", None), "params", {}).get("attempt", 1)
    record = Record(
        control=marker.args[0],
        proof=item.nodeid,
        status=status,
        cases=seen.asserted.total(),
        minimum=marker.kwargs["cases"],
        positive=tuple(seen.shown),
        asserted=dict(seen.asserted),
        assertion=assertion,
        detail=detail,
        attempt=attempt,
        attempts=marker.kwargs["attempts"],
        started=datetime.fromtimestamp(call.start, UTC).isoformat(timespec="milliseconds"),
        seconds=round(call.duration, 2),
        subject={},
        proof_sha256=hashlib.sha256(item.path.read_bytes()).hexdigest(),
        versions=_versions,
        driven=driven.count() - item.stash.get(DRIVEN, driven.count()),
    )
    report.user_properties.append((PROPERTY, json.dumps(record.__dict__)))
    return report


def _verdict(
    item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None], seen: Proof, minimum: int
) -> tuple[evidence.Status, str | None, str]:
    error = call.excinfo.value if call.excinfo else None
    if report.skipped:
        return "SKIP", None, str(error)[:200]
    match error:
        case Refuted():
            return "FAIL", error.assertion, error.detail
        case NotPositive():
            return "FAIL", "no positive control", str(error)
        case None:
            return _passed(item, seen, minimum)
    name = evidence.OUT_OF_TIME if _out_of_time(error) else type(error).__name__
    return "ERROR", None, f"{name}: {error}"[:400]


def _out_of_time(error: BaseException) -> bool:
    """Whether time ran out: of a wait, of a request or a process of the harness, or of the whole proof."""
    if isinstance(error, OutOfTime | TimeoutError | subprocess.TimeoutExpired | httpx2.TimeoutException):
        return True
    return isinstance(error, pytest.fail.Exception) and str(error).startswith("Timeout")


def _passed(item: pytest.Item, seen: Proof, minimum: int) -> tuple[evidence.Status, str | None, str]:
    """A proof that ended without a complaint may still have proven nothing."""
    if "proof" not in getattr(item, "fixturenames", []) or not seen.shown:
        return "FAIL", "no positive control", "nothing legitimate was shown to work"
    if seen.absent_surface:
        return "N/A", None, seen.absent_surface
    if seen.asserted.total() < max(minimum, 1):
        return "FAIL", "vacuous", f"{seen.asserted.total()} cases, at least {max(minimum, 1)} are needed"
    return "PASS", None, ""


class Writer:
    """Appends a record for each report that carries one; registered in the controlling process only."""

    def __init__(self, file: Path) -> None:
        self.file, self._subject = file, subject.current().as_dict()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, str):
                fields = json.loads(value)
                evidence.append([Record(**{**fields, "subject": self._subject})], self.file)
