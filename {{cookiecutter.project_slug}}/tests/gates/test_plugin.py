"""What becomes evidence: a proof that proves nothing is a failure, whatever pytest thinks of it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

PROOFS = """
import pytest
from gates.proof import Proof, control


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
        ("skipped", "SKIP", None),
        ("nothing_to_protect", "N/A", None),
        ("race[3]", "PASS", None),
    ],
)
def test_each_ending_has_its_status(records: dict[str, Any], proof: str, status: str, assertion: str | None) -> None:
    assert (records[proof]["status"], records[proof]["assertion"]) == (status, assertion)


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
