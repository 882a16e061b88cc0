"""What becomes evidence: a proof that proves nothing is a failure, whatever pytest thinks of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

PROOFS = """
import time

import httpx2
import pytest

from gates.proof import Proof, control
from gates.rig.service import wait_for


@control("CST-03", cases=2)
def test_good(proof: Proof) -> None:
    with proof.positive("it works"):
        assert True
    proof.holds("output-cap", 1)
    proof.same("deadline", 2, 2)


@control("CST-03", cases=1)
def test_refuted(proof: Proof) -> None:
    with proof.positive("it works"):
        pass
    proof.same("deadline", 3, 2)


@control("CST-03", cases=1)
def test_too_few(proof: Proof) -> None:
    with proof.positive("it works"):
        pass


@control("CST-03", cases=0)
def test_asserts_nothing(proof: Proof) -> None:
    with proof.positive("it works"):
        pass


@control("CST-03", cases=1)
def test_takes_no_proof() -> None:
    assert True


@control("CST-03", cases=1)
def test_refusals_only(proof: Proof) -> None:
    proof.holds("deadline", True)


@control("CST-03", cases=1)
def test_refuses_everything(proof: Proof) -> None:
    with proof.positive("it works"):
        assert 403 == 200
    proof.holds("deadline", True)


@control("CST-03", cases=1)
def test_crash(proof: Proof) -> None:
    raise RuntimeError("the proof is broken")


@control("CST-03", cases=2)
def test_waits_in_vain(proof: Proof) -> None:
    with proof.positive("it works"):
        wait_for(lambda: False, 0.01)


@control("CST-03", cases=2)
def test_request_out_of_time(proof: Proof) -> None:
    with proof.positive("it works"):
        raise httpx2.ReadTimeout("no answer")


@control("CST-03", cases=2)
@pytest.mark.timeout(1)
def test_out_of_time_itself(proof: Proof) -> None:
    with proof.positive("it works"):
        time.sleep(30)


@control("CST-03", cases=1)
def test_late_on_a_slow_machine(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gates.rig.pace.reference", lambda: 10.0)
    with proof.positive("it works"):
        pass
    proof.in_time("deadline", 3, 1)


@control("CST-03", cases=1)
def test_later_than_the_machine_explains(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gates.rig.pace.reference", lambda: 0.01)
    with proof.positive("it works"):
        pass
    proof.in_time("deadline", 3, 1)


@control("CST-03", cases=1)
def test_never_happens(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gates.rig.pace.reference", lambda: 0.01)
    with proof.positive("it works"):
        pass
    proof.soon("deadline", lambda: False, 0.1)


@control("CST-03", cases=1)
def test_happens_late_on_a_slow_machine(proof: Proof, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gates.rig.pace.reference", lambda: 10.0)
    with proof.positive("it works"):
        pass
    answers = iter([False, False, False, False])
    proof.soon("deadline", lambda: next(answers, True), 0)


@control("CST-03", cases=2)
def test_in_time(proof: Proof) -> None:
    with proof.positive("it works"):
        pass
    proof.in_time("deadline", 1, 1)
    proof.soon("output-cap", lambda: True, 0)


@control("CST-03", cases=1)
def test_setup_crash(proof: Proof, no_such_fixture: None) -> None:
    pass


@control("CST-03", cases=1)
@pytest.mark.skip(reason="not today")
def test_skipped(proof: Proof) -> None:
    pass


@control("CST-03", cases=1)
def test_nothing_to_protect(proof: Proof) -> None:
    proof.absent("no such route", looked_at=3)


@control("CST-03", cases=1, attempts=3)
def test_race(proof: Proof) -> None:
    with proof.positive("it works"):
        pass
    proof.holds("deadline", True)


@control("CST-03", cases=1, slow=True)
def test_slow(proof: Proof) -> None:
    raise AssertionError
"""


DRIVING = """
import socket
from gates.proof import Proof, control
from gates.rig import driven


@control("CST-03", cases=1)
def test_drives(proof: Proof) -> None:
    with socket.create_server(("127.0.0.1", 0)) as service, socket.create_server(("127.0.0.1", 0)) as stub:
        driven.started(service.getsockname()[1])
        for place in (service, service, stub):
            socket.create_connection(place.getsockname()).close()
    with proof.positive("it works"):
        pass
    proof.holds("deadline", True)


@control("CST-03", cases=1)
def test_does_not(proof: Proof) -> None:
    with proof.positive("it works"):
        pass
    proof.holds("deadline", True)
"""


def _run(folder: Path, source: str) -> tuple[dict[str, Any], subprocess.CompletedProcess[str]]:
    (folder / "test_planted.py").write_text(source)
    file = folder / "evidence.jsonl"
    command = [sys.executable, "-m", "pytest", "-p", "gates.plugin", "-q", "-n", "2", "--fast", "--evidence", str(file)]
    done = subprocess.run(
        [*command, "--rootdir", str(ROOT), str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    lines = file.read_text().splitlines() if file.exists() else []
    return {r["proof"].partition("::test_")[2]: r for r in map(json.loads, lines)}, done


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    found, done = _run(tmp_path_factory.mktemp("proofs"), PROOFS)
    assert done.returncode == 1, done.stdout
    return found


@pytest.mark.parametrize(
    ("proof", "status", "assertion"),
    [
        ("good", "PASS", None),
        ("refuted", "FAIL", "deadline"),
        ("too_few", "FAIL", "vacuous"),
        ("asserts_nothing", "FAIL", "vacuous"),
        ("takes_no_proof", "FAIL", "no positive control"),
        ("refusals_only", "FAIL", "no positive control"),
        ("refuses_everything", "FAIL", "positive: it works"),
        ("crash", "ERROR", None),
        ("setup_crash", "ERROR", None),
        ("waits_in_vain", "ERROR", None),
        ("request_out_of_time", "ERROR", None),
        ("out_of_time_itself", "ERROR", None),
        ("late_on_a_slow_machine", "ERROR", None),
        ("later_than_the_machine_explains", "FAIL", "deadline"),
        ("never_happens", "FAIL", "deadline"),
        ("happens_late_on_a_slow_machine", "ERROR", None),
        ("in_time", "PASS", None),
        ("skipped", "SKIP", None),
        ("nothing_to_protect", "N/A", None),
        ("race[3]", "PASS", None),
    ],
)
def test_each_ending_has_its_status(records: dict[str, Any], proof: str, status: str, assertion: str | None) -> None:
    assert (records[proof]["status"], records[proof]["assertion"]) == (status, assertion)


@pytest.mark.parametrize(
    "proof",
    [
        "waits_in_vain", "request_out_of_time", "out_of_time_itself", "late_on_a_slow_machine",
        "happens_late_on_a_slow_machine",
    ],
)  # fmt: skip
def test_a_proof_that_had_no_time_says_so(records: dict[str, Any], proof: str) -> None:
    assert records[proof]["detail"].startswith("OutOfTime: ")


def test_a_record_counts_the_services_that_the_proof_has_driven(tmp_path: Path) -> None:
    found, done = _run(tmp_path, DRIVING)
    assert done.returncode == 0, done.stdout
    assert {name: record["driven"] for name, record in found.items()} == {"drives": 3, "does_not": 0}


def test_a_record_says_what_was_seen_of_which_code(records: dict[str, Any]) -> None:
    good = records["good"]
    assert (good["cases"], good["asserted"], good["positive"]) == (2, {"output-cap": 1, "deadline": 1}, ["it works"])
    assert set(good["subject"]) == {"commit", "tree", "dirty", "config", "policy", "models", "prompts"}
    assert len(good["proof_sha256"]) == 64
    assert [records[f"race[{n}]"]["attempt"] for n in (1, 2, 3)] == [1, 2, 3]
    assert "slow" not in records


@pytest.mark.parametrize(
    "source",
    [
        "def test_plain() -> None:\n    pass\n",
        'from gates.proof import control\n\n@control("CST-99", cases=1)\ndef test_x(proof) -> None:\n    pass\n',
    ],
    ids=["no control", "no such control"],
)
def test_a_test_that_proves_no_control_is_an_error(tmp_path: Path, source: str) -> None:
    found, done = _run(tmp_path, source)
    assert {record["status"] for record in found.values()} == {"ERROR"}
    assert "proves a control of gates/controls.toml" in next(iter(found.values()))["detail"]
    assert done.returncode == 1
