"""The scorer itself: what it counts, and all it must not be fooled by."""

import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gates import suites
from gates.attestations import Attestation, Said, Waiver
from gates.catalogue import Catalogue, Control
from gates.evidence import EvidenceUnreadable, Record, append, read
from gates.sabotage import Kills, KillsUnreadable
from gates.scorecard import EXIT, Scorecard, judge
from gates.subject import Subject

NOW = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
SUBJECT = Subject("c0ffee", "tree", False, "config", "policy", "models", "prompts")
SHIPPED = Catalogue.load()


def _proven(catalogue: Catalogue) -> Catalogue:
    """The catalogue as it will be when every control has a proof."""
    proven = {"assertions": ("holds",), "cases": 2, "implemented": ("app",), "suite": ""}
    gates = []
    for gate in catalogue.gate:
        controls = tuple(c if c.assertions else c.model_copy(update=proven) for c in gate.control)
        gates.append(gate.model_copy(update={"control": controls, "suites": ()}))
    return Catalogue(gate=tuple(gates))


COMPLETE = _proven(SHIPPED)


def _record(control: Control, **changes: Any) -> Record:
    asserted = dict.fromkeys(control.assertions, 1)
    asserted[control.assertions[0]] += control.cases
    good = Record(
        control=control.id, proof=f"gates/test_x.py::test_{control.id}", status="PASS", cases=sum(asserted.values()),
        minimum=1, positive=("it works",), asserted=asserted, assertion=None, detail="", attempt=1, attempts=1,
        started=(NOW - dt.timedelta(hours=1)).isoformat(), seconds=1.0, subject=SUBJECT.as_dict(), proof_sha256="0",
        driven=1,
    )  # fmt: skip
    return replace(good, **changes)


def _evidence(**changes: dict[str, Any]) -> list[Record]:
    """A good record for each control, with changes for some by their id."""
    return [_record(c, **changes.get(c.id.replace("-", "_"), {})) for c in COMPLETE.controls.values()]


def _said() -> Said:
    day = NOW.date()
    good = {
        s.id: Attestation(id=s.id, statement=s.statement, person="Ada", date=day, expires=day, evidence="x")
        for s in COMPLETE.statements.values()
    }
    return Said(good=good)


def _judge(records: Sequence[Record], said: Said | None = None, **changes: Any) -> Scorecard:
    settings: dict[str, Any] = {
        "uncaught": dict.fromkeys(COMPLETE.controls, ""),
        "subject": SUBJECT,
        "now": NOW,
        **changes,
    }
    return judge(COMPLETE, records, _said() if said is None else said, **settings)


def _level(card: Scorecard, gate: str) -> int:
    return next(score.level for score in card.gates if score.gate.id == gate)


def _state(card: Scorecard, control: str) -> tuple[str, str]:
    return next((v.state, v.reason) for score in card.gates for v in score.verdicts if v.control.id == control)


def test_all_evidence_all_attestations_and_caught_sabotage_is_go() -> None:
    card = _judge(_evidence())
    assert (card.decision, EXIT[card.decision]) == ("GO", 0)
    assert {score.level for score in card.gates} == {5}
    assert [score.missing for score in card.gates] == [()] * 10


def test_the_minimums_are_those_that_were_asked_for() -> None:
    assert [gate.minimum for gate in SHIPPED.gate] == [4, 4, 4, 4, 3, 3, 3, 4, 3, 4]


def test_no_evidence_is_zero_everywhere() -> None:
    card = _judge([])
    assert (card.decision, EXIT[card.decision]) == ("PAUSED", 1)
    assert {score.level for score in card.gates} == {0}


@pytest.mark.parametrize("part", ["commit", "tree", "config", "policy", "models", "prompts"])
def test_evidence_of_another_subject_is_stale(part: str) -> None:
    other: dict[str, Any] = {part: "another"}
    card = _judge(_evidence(), subject=replace(SUBJECT, **other))
    assert {score.level for score in card.gates} == {0}
    assert {v.state for score in card.gates for v in score.verdicts} == {"STALE"}


@pytest.mark.parametrize("age", [dt.timedelta(hours=25), -dt.timedelta(hours=1)], ids=["old", "from the future"])
def test_evidence_that_is_too_old_or_from_the_future_is_stale(age: dt.timedelta) -> None:
    card = _judge(_evidence(CST_01={"started": (NOW - age).isoformat()}))
    assert _state(card, "CST-01")[0] == "STALE"
    assert card.decision == "PAUSED"


@pytest.mark.parametrize(
    ("change", "state", "reason"),
    [
        ({"status": "FAIL", "assertion": "under-the-cap"}, "FAIL", "under-the-cap"),
        ({"status": "ERROR", "detail": "crash"}, "ERROR", "crash"),
        ({"status": "SKIP"}, "SKIP", "skip"),
        ({"asserted": {}, "cases": 0}, "FAIL", "never asserted"),
        ({"cases": 3}, "FAIL", "3 cases"),
        ({"positive": ()}, "FAIL", "no positive control"),
        ({"driven": 0}, "FAIL", "no service was started or asked in gates/test_x.py::test_CST-01"),
        ({"asserted": {"under-the-cap": 900}}, "FAIL", "never asserted"),
        ({"attempts": 3, "proof": "gates/test_x.py::test_y[1]"}, "FAIL", "1 of 3 runs in a row"),
    ],
)
def test_only_a_complete_pass_counts(change: dict[str, Any], state: str, reason: str) -> None:
    card = _judge(_evidence(CST_01=change))
    assert _state(card, "CST-01")[0] == state
    assert reason in _state(card, "CST-01")[1]
    assert _level(card, "cost") == 2
    assert [name for name, _ in card.gates[-1].missing] == ["CST-01"]
    assert card.decision == "PAUSED"


def test_an_assertion_that_the_catalogue_does_not_know_is_reported() -> None:
    control = COMPLETE.controls["CST-04"]
    extra = {**dict.fromkeys(control.assertions, 9), "made-up": 1}
    assert "made-up" in _state(_judge(_evidence(CST_04={"asserted": extra, "cases": 99})), "CST-04")[1]


def test_trying_again_until_it_is_green_does_not_help() -> None:
    [first] = [r for r in _evidence() if r.control == "CST-01"]
    red = replace(first, status="FAIL", assertion="usable")
    assert _state(_judge([*_evidence(), red]), "CST-01")[0] == "FAIL"
    assert _state(_judge([red, *_evidence()]), "CST-01")[0] == "FAIL"
    of_other_code = replace(red, subject=replace(SUBJECT, tree="before the fix").as_dict())
    assert _state(_judge([of_other_code, *_evidence()]), "CST-01")[0] == "PASS"


@pytest.mark.parametrize("gate", [gate.id for gate in SHIPPED.gate])
def test_no_gate_is_passed_without_fresh_sabotage_of_its_critical_controls(gate: str) -> None:
    """Also those whose minimum is three: a proof that was gutted and asserts what it likes has no fresh kill."""
    critical = [c.id for g in COMPLETE.gate if g.id == gate for c in g.control if c.weight == "critical"]
    card = _judge(_evidence(), uncaught=dict.fromkeys(COMPLETE.controls, "") | {critical[0]: "stale: 1 of 1"})
    assert card.decision == "PAUSED"
    assert [lack for score in card.gates for lack in score.missing] == [(critical[0], "stale: 1 of 1")]


def test_a_passing_standard_control_with_stale_sabotage_is_the_nearest_to_level_four() -> None:
    standard = [c.id for c in COMPLETE.gate[-1].control if c.weight == "standard"]
    uncaught = dict.fromkeys(COMPLETE.controls, "") | {standard[4]: "stale"}
    records = [r for r in _evidence() if r.control not in standard[:2]]
    missing = _judge(records, uncaught=uncaught).gates[-1].missing
    assert missing[0] == (standard[4], "stale")


def test_proofs_that_could_not_judge_and_nothing_else_make_the_verdict_cannot_judge() -> None:
    late = {"status": "ERROR", "detail": "OutOfTime: not reached within 200 s"}
    card = _judge(_evidence(CST_01=late))
    assert (card.decision, EXIT[card.decision]) == ("CANNOT JUDGE", 2)
    assert "CST-01" in card.reason
    assert _state(card, "CST-01") == ("ERROR", "error: OutOfTime: not reached within 200 s")
    assert _level(card, "cost") == 2
    broken: dict[str, Any] = {"status": "FAIL", "assertion": "usable"}
    assert _judge(_evidence(CST_01=late, CST_03=broken)).decision == "PAUSED"
    assert _judge(_evidence(CST_01=late), said=Said()).decision == "PAUSED"
    assert _judge(_evidence(CST_01={"status": "ERROR", "detail": "KeyError: x"})).decision == "PAUSED"


def test_not_applicable_counts_when_a_probe_has_shown_it() -> None:
    card = _judge(_evidence(SEC_08={"status": "N/A", "detail": "no tool runs code", "asserted": {}, "cases": 0}))
    assert _state(card, "SEC-08")[0] == "N/A"
    assert card.decision == "GO"


def test_a_failed_critical_control_pauses_whatever_else_is_perfect() -> None:
    for control in COMPLETE.controls.values():
        if control.weight == "critical":
            card = _judge([r for r in _evidence() if r.control != control.id])
            assert card.decision == "PAUSED"
            assert [n for score in card.gates for n, _ in score.missing] == [control.id]


def test_levels_rise_with_critical_controls_people_sabotage_and_shares() -> None:
    critical = [c.id for c in COMPLETE.gate[0].control if c.weight == "critical"]
    standard = [c.id for c in COMPLETE.gate[0].control if c.weight == "standard"]

    def level(proven: Sequence[str], **changes: Any) -> int:
        return _level(_judge([r for r in _evidence() if r.control in proven], **changes), "security")

    assert level([]) == 0
    assert level(critical[:1]) == 1
    assert level(critical[:3]) == 2
    assert level(critical, said=Said()) == 2
    assert level(critical) == 3
    assert level([*critical, *standard[:4]]) == 3
    assert level([*critical, *standard[:5]]) == 4
    uncaught = dict.fromkeys(COMPLETE.controls, "") | {"SEC-01": "no sabotage of it was tried"}
    assert level([*critical, *standard], uncaught=uncaught) == 2
    assert level(critical, uncaught=uncaught) == 2
    some = dict.fromkeys(COMPLETE.controls, "") | dict.fromkeys(standard[:3], "stale")
    assert level([*critical, *standard], uncaught=some) == 3
    one = dict.fromkeys(COMPLETE.controls, "") | {standard[0]: "stale"}
    assert level([*critical, *standard, "SEC-13"], uncaught=one) == 4
    assert level([*critical, *standard]) == 4
    assert level([*critical, *standard, "SEC-13"]) == 5


def test_a_missing_suite_keeps_a_gate_from_level_five() -> None:
    gates = [g.model_copy(update={"suites": ("zizmor",)}) if g.id == "security" else g for g in COMPLETE.gate]
    catalogue = Catalogue(gate=tuple(gates))
    arguments: tuple[Any, ...] = (_evidence(), _said(), dict.fromkeys(COMPLETE.controls, ""), SUBJECT, NOW)
    assert _level(judge(catalogue, *arguments), "security") == 4
    assert _level(judge(catalogue, *arguments, suites=frozenset({"zizmor"})), "security") == 5


def test_uncommitted_changes_cannot_be_judged_good() -> None:
    dirty = replace(SUBJECT, dirty=True)
    card = _judge([replace(r, subject=dirty.as_dict()) for r in _evidence()], subject=dirty)
    assert (card.decision, EXIT[card.decision]) == ("CANNOT JUDGE", 2)


def test_the_shortest_list_names_what_is_nearest_first_and_nothing_more() -> None:
    standard = [c.id for c in COMPLETE.gate[-1].control if c.weight == "standard"]
    stale = {"started": (NOW - dt.timedelta(days=2)).isoformat()}
    gone = set(standard[:3])
    records = [r for r in _evidence(**{standard[4].replace("-", "_"): stale}) if r.control not in gone]
    missing = [name for name, _ in _judge(records).gates[-1].missing]
    assert len(missing) == 3  # 5 of 6 are needed, 2 are there
    assert missing[0] == standard[4]


def test_a_waiver_changes_no_score_and_never_covers_a_critical_control() -> None:
    day = NOW.date()
    waiver = Waiver(gate="performance", people=("Ada", "Grace"), reason="twenty invited users", date=day, expires=day)
    said = replace(_said(), waived={"performance": waiver})
    gates = [g.model_copy(update={"minimum": 4}) if g.id == "performance" else g for g in COMPLETE.gate]
    catalogue = Catalogue(gate=tuple(gates))
    standard = {c.id for g in catalogue.gate if g.id == "performance" for c in g.control if c.weight == "standard"}
    arguments: tuple[Any, ...] = (said, dict.fromkeys(COMPLETE.controls, ""), SUBJECT, NOW)
    card = judge(catalogue, [r for r in _evidence() if r.control not in standard], *arguments)
    assert (card.decision, EXIT[card.decision], _level(card, "performance")) == ("CONDITIONAL", 0, 3)
    card = judge(catalogue, [r for r in _evidence() if r.control != "PRF-01"], *arguments)
    assert card.decision == "PAUSED"


def test_some_gates_can_be_judged_alone_and_the_card_says_so() -> None:
    card = _judge(_evidence(SEC_01={"status": "FAIL"}), gates=SHIPPED.named("cost"))
    assert card.restricted
    assert [score.gate.id for score in card.gates] == ["cost"]


@pytest.mark.parametrize(
    "line",
    [
        "{", "[]", "\xff", '{"control": "CST-01"}', '{"cases": "many"}',
    ],
)  # fmt: skip
def test_unreadable_evidence_is_named_by_its_line(tmp_path: Path, line: str) -> None:
    file = tmp_path / "evidence.jsonl"
    append([_record(COMPLETE.controls["CST-01"])], file)
    assert len(read(file)) == 1
    file.write_bytes(file.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(EvidenceUnreadable, match=r"evidence\.jsonl, line 2"):
        read(file)


@pytest.mark.parametrize("text", ["{", "[]", '{"kills": {}}', '{"harnesses": {}, "kills": [{"control": "CST-01"}]}'])
def test_an_unreadable_record_of_sabotage_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sabotage.json"
    file.write_text(text)
    with pytest.raises(KillsUnreadable, match=r"sabotage\.json"):
        Kills.load(file)


@pytest.mark.parametrize(
    ("assessed", "state"),
    [({}, "NOT ASSESSED"), ({"containers": (True, "16 checks")}, "PASS"), ({"containers": (False, "root")}, "FAIL")],
)
def test_what_a_suite_assesses_passes_by_that_alone(assessed: dict[str, tuple[bool, str]], state: str) -> None:
    control = SHIPPED.controls["DEP-10"]
    assert control.suite == "containers"
    whatever = _record(COMPLETE.controls["DEP-10"])  # a record of a proof does not stand in for it
    card = judge(SHIPPED, [whatever], Said(), {}, SUBJECT, NOW, assessed=assessed)
    [verdict] = [v for score in card.gates for v in score.verdicts if v.control.id == "DEP-10"]
    assert (verdict.state, verdict.counts) == (state, state == "PASS")


def _found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> dict[str, tuple[bool, str]]:
    monkeypatch.setattr(suites, "CONTAINERS", tmp_path / "containers.json")
    told = {
        "ok": True, "complete": True, "checked": 16, "failed": [], "at": NOW.isoformat(), "subject": SUBJECT.as_dict(),
    }  # fmt: skip
    suites.CONTAINERS.write_text(json.dumps({**told, **changes}))
    return suites.assessed(SUBJECT, NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": replace(SUBJECT, commit="other").as_dict()},
        {"at": (NOW - dt.timedelta(days=8)).isoformat()},
        {"complete": False},
        {"checked": None},
    ],
)
def test_a_suite_of_another_code_old_broken_off_or_unreadable_is_not_assessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    assert _found(tmp_path, monkeypatch) == {"containers": (True, "16 checks")}
    assert _found(tmp_path, monkeypatch, **changes) == {}


def test_a_suite_that_found_something_or_looked_at_nothing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _found(tmp_path, monkeypatch, ok=False, failed=["user: root"]) == {"containers": (False, "user: root")}
    assert _found(tmp_path, monkeypatch, checked=0)["containers"][0] is False


def test_a_control_has_proofs_or_a_suite() -> None:
    both = SHIPPED.controls["DEP-10"].model_dump() | {"assertions": ("holds",), "cases": 1}
    with pytest.raises(ValidationError, match="neither assertions nor cases"):
        Control.model_validate(both)
