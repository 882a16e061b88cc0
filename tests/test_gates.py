"""The gates of a generated service: what a fresh one scores, and that they cannot be talked round."""

import ast
import json
import re
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.generated import copy, make, succeeds

pytestmark = pytest.mark.service
# What may happen to a proof, each at a gate that has a level to lose.
GONE = [("security", "removed"), ("errors", "skipped"), ("validation", "hollow")]
STALE = re.compile(
    r"no sabotage of it was tried|stale: \d+ of \d+ sabotages are not shown since a change of .+", re.DOTALL
)


@pytest.fixture(scope="module")
def service(project: Path, workshop: Path) -> Path:
    """A clone of the project, committed, with its environment."""
    clone = copy(project, workshop)
    succeeds(clone, "setup")
    return clone


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def _card(service: Path, name: str = "scorecard.json") -> dict[str, Any]:
    card: dict[str, Any] = json.loads((service / ".gates" / name).read_text())
    return card


def _levels(service: Path) -> dict[str, int]:
    return {gate["id"]: gate["level"] for gate in _card(service)["gates"]}


def test_1_a_fresh_service_is_paused_and_told_exactly_why(service: Path) -> None:
    done = make(service, "gates")
    assert done.returncode == 2, done.stdout  # make's own code for a recipe that failed
    assert "PAUSED" in done.stdout
    card = _card(service)
    assert card["decision"] == "PAUSED"
    controls = {c["id"]: c for gate in card["gates"] for c in gate["controls"]}
    unproven = {name for name, c in controls.items() if c["state"] not in {"PASS", "N/A"}}
    not_run = {name for name in unproven if controls[name]["state"] == "NOT ASSESSED"}
    assert {controls[name]["reason"] for name in unproven - not_run} == {"no proof yet"}
    assert not_run == {"DEP-10"}, "containers have a target of their own"
    assert len(controls) - len(unproven) == 79
    assert {name for name, c in controls.items() if c["state"] == "N/A"} == {"SEC-08"}
    # A change may leave a kill stale until it is shown again: the scorecard says so, and RELEASE=1 refuses it.
    sabotage = {name: c["sabotage"] for name, c in controls.items() if name not in unproven}
    uncaught = {name: why for name, why in sabotage.items() if why != "caught"}
    assert {name: why for name, why in uncaught.items() if not STALE.fullmatch(why)} == {}
    missing = {lack["id"] for gate in card["gates"] for lack in gate["missing"]}
    assert {"SEC-P1", "CST-P1"} <= missing
    assert not missing & (set(controls) - unproven - set(uncaught))
    assert all(name in done.stdout for name in missing)
    badge = (service / ".gates" / "badge.svg").read_text()
    assert "PAUSED 0/10" in badge


def test_2_the_report_is_one_file_that_needs_nothing_else(service: Path) -> None:
    page = (service / ".gates" / "scorecard.html").read_text()
    assert not re.findall(r"(?:src|href)=\"(?!#)[^\"]+\"|@import|url\(|<script", page)
    for gate in _card(service)["gates"]:
        assert gate["name"] in page
        for control in gate["controls"]:
            assert control["id"] in page


@pytest.mark.parametrize(("gate", "how"), GONE)
def test_3_a_proof_file_that_is_gone_skipped_or_hollow_lowers_the_score(service: Path, gate: str, how: str) -> None:
    before = _levels(service)[gate]
    sources = _proofs_of(service, gate)
    evidence = service / ".gates" / "evidence.jsonl"
    kept = evidence.read_text()
    try:
        for file, source in sources.items():
            match how:
                case "removed":
                    file.unlink()
                case "skipped":
                    file.write_text(source + "\nimport pytest\n\npytestmark = pytest.mark.skip(reason='later')\n")
                case "hollow":
                    file.write_text(_hollow(source))
        done = make(service, "gates", GATE=gate)
        assert done.returncode == 2
        card = _card(service, "part-scorecard.json")["gates"][0]
        states = {c["state"] for c in card["controls"]}
        assert card["level"] < before
        assert card["level"] == 0
        assert "PASS" not in states
        assert {"removed": "STALE", "skipped": "SKIP", "hollow": "FAIL"}[how] in states
        assert _levels(service)[gate] == before, "the page of all ten gates stays as it is"
    finally:
        for file, source in sources.items():
            file.write_text(source)
        evidence.write_text(kept)


def _proofs_of(service: Path, gate: str) -> dict[Path, str]:
    """The files with this gate's proofs: some stand with another gate's, which need the same parts."""
    prefix = next(each["prefix"] for each in _catalogue(service) if each["id"] == gate)
    texts = {file: file.read_text() for file in (service / "gates").glob("test_*.py")}
    return {file: text for file, text in texts.items() if re.search(rf'@control\("{prefix}-\d\d"', text)}


def _catalogue(service: Path) -> list[dict[str, Any]]:
    gates: list[dict[str, Any]] = tomllib.loads((service / "gates" / "controls.toml").read_text())["gate"]
    return gates


def _score(service: Path) -> subprocess.CompletedProcess[str]:
    """Judge the evidence that is there."""
    command = [".venv/bin/python", "-m", "gates", "score"]
    return subprocess.run(command, cwd=service, capture_output=True, text=True, check=False)


def _hollow(source: str) -> str:
    """The same proofs with nothing in them."""
    tree = ast.parse(source)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            node.body = ast.parse("with proof.positive('nothing'):\n    pass").body
    return ast.unparse(tree)


def test_4_evidence_of_another_commit_counts_for_nothing(service: Path) -> None:
    _git(service, "commit", "--allow-empty", "--no-verify", "-m", "another commit")
    done = _score(service)
    assert done.returncode == 1
    assert "the evidence is of commit" in done.stdout
    assert set(_levels(service).values()) == {0}
    _git(service, "reset", "--soft", "HEAD~1")


def test_5_a_service_that_answers_403_to_everything_scores_at_most_one(project: Path, workshop: Path) -> None:
    clone = copy(project, workshop)
    middleware = clone / "app" / "api" / "middleware.py"
    text = middleware.read_text()
    first = "        given = Headers(scope=scope)"
    closed = (
        '        if scope["path"] not in {"/livez", "/readyz"}:\n'
        "            await problem(Forbidden())(scope, receive, send)\n            return\n"
    )
    assert first in text
    text = text.replace(first, closed + first).replace("import AppError,", "import AppError, Forbidden,")
    middleware.write_text(text)
    succeeds(clone, "setup")
    for gate in ("access", "validation"):  # of refusals nearly all: where it could look well
        assert make(clone, "gates", FAST="1", GATE=gate).returncode == 2
        [scored] = _card(clone, "part-scorecard.json")["gates"]
        assert scored["level"] <= 1, gate


def test_6_gates_that_are_complete_say_go(project: Path, workshop: Path) -> None:
    """A real run of the real proofs, on a catalogue of only what is built, with its attestations: GO."""
    clone = copy(project, workshop)
    catalogue = clone / "gates" / "controls.toml"
    head, *blocks = re.split(r"(?=^\[\[)", catalogue.read_text(), flags=re.MULTILINE)
    # What is proven and has sabotages on record; a control that is new may still have to be swept.
    recorded = {kill["control"] for kill in json.loads((clone / "gates" / "sabotage.json").read_text())["kills"]}
    shown = {b for b in blocks if "assertions" in b and any(f'id = "{control}"' in b for control in recorded)}
    built = [b for b in blocks if not b.startswith("[[gate.control]]") or b in shown]
    catalogue.write_text(head + "".join(b for b in built if _belongs(b, blocks, "observability")))
    today = datetime.now(UTC).date()
    (clone / "attestations.toml").write_text(
        '[[attestation]]\nid = "OBS-P1"\n'
        'statement = "The list of people who can read content and logs is current."\n'
        f'person = "Ada Lovelace"\ndate = {today}\nexpires = {today + timedelta(days=1)}\nevidence = "a link"\n'
    )
    succeeds(clone, "setup")
    _renew_record(clone)
    _git(clone, "add", "--all")
    _git(clone, "commit", "--allow-empty", "--no-verify", "-m", "attested")
    assert "GO" in succeeds(clone, "gates")
    [gate] = _card(clone)["gates"]
    assert (gate["id"], gate["level"], gate["missing"]) == ("observability", 4, [])


RENEW = """
import dataclasses, json
from gates.sabotage import FILE, Kills, digests, harness_key
record, kills, harnesses = Kills.load(), [], {}
for kill in record.kills:
    proofs = [name for name in kill.files if "::" in name]
    if kill.control.startswith("OBS-"):
        files, harness = digests([name for name in kill.files if name not in proofs], proofs)
        harnesses[harness_key(harness)] = harness
        kills.append(dataclasses.replace(kill, files=files, harness=harness_key(harness)).__dict__)
FILE.write_text(json.dumps({"harnesses": harnesses, "kills": kills}))
"""


def _renew_record(service: Path) -> None:
    """As if the sweep had just caught everything: this is about the scorecard, and a change may leave kills stale."""
    subprocess.run([".venv/bin/python", "-c", RENEW], cwd=service, check=True)


def _belongs(block: str, blocks: list[str], gate: str) -> bool:
    """Whether a block of the catalogue stands under this gate."""
    before = [b for b in blocks[: blocks.index(block) + 1] if b.startswith("[[gate]]")]
    return f'id = "{gate}"' in before[-1]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (".gates/evidence.jsonl", "no json\n", "evidence.jsonl, line 1"),
        ("gates/controls.toml", "[[gate]]\n", "controls.toml"),
        ("attestations.toml", "[[attestation]]\n", "attestations.toml: attestation.0"),
    ],
)
def test_7_what_cannot_be_judged_says_so_with_exit_code_2(service: Path, name: str, content: str, told: str) -> None:
    file = service / name
    before = file.read_text()
    file.write_text(content)
    try:
        done = _score(service)
    finally:
        file.write_text(before)
    assert done.returncode == 2
    assert "CANNOT JUDGE" in done.stderr
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_8_an_unknown_gate_is_named_with_what_there_is(service: Path) -> None:
    done = make(service, "gates", GATE="cots")
    assert "no gate cots: choose from security, access" in done.stdout


def test_9_attacks_replayed_through_the_guard_do_not_succeed(service: Path) -> None:
    """A twentieth of AgentDojo's attacks; `make redteam` plays them all."""
    shown = succeeds(service, "redteam", ARGS="--every 20")
    assert "HOLDS" in shown, shown[-1500:]
    assert "0 with this service's policy" in shown
    assert "agentdojo" not in "".join(path.name for path in (service / ".venv/lib").glob("*/site-packages/*"))
