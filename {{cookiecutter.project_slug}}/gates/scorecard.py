"""The scorecard: computed from evidence, attestations and caught sabotage, and from nothing else.

Only PASS counts, and N/A where a probe has shown that there is nothing to protect. Missing is FAIL, and NOT ASSESSED
where a suite needs more than this machine has and was not run on this code. There is no
average and no total that could hide a gate.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Literal

from gates.attestations import Said
from gates.catalogue import Catalogue, Control, Gate, Statement
from gates.evidence import Record, latest
from gates.subject import Subject

State = Literal["PASS", "FAIL", "ERROR", "SKIP", "STALE", "N/A", "NOT ASSESSED"]
Decision = Literal["GO", "CONDITIONAL", "PAUSED", "CANNOT JUDGE"]
EXIT: dict[Decision, int] = {"GO": 0, "CONDITIONAL": 0, "PAUSED": 1, "CANNOT JUDGE": 2}
LEVELS = ("Nothing proven", "Begun", "Half way", "Proven", "Resistant", "Independent")
STANDARD_SHARE = 0.8  # of the standard controls, for level 4
ADVANCED_SHARE = 0.5  # of the advanced controls, for level 5


@dataclass(frozen=True)
class Verdict:
    """One control: its state, why, and what its proofs have seen."""

    control: Control
    state: State
    reason: str
    records: tuple[Record, ...] = ()
    uncaught: str = ""  # why sabotage of it does not count as caught; empty when it does

    @property
    def counts(self) -> bool:
        return self.state in {"PASS", "N/A"}

    @property
    def resists(self) -> bool:
        """It counts, and every known sabotage of it was caught by this code: what level 3 and above ask."""
        return self.state == "N/A" or (self.state == "PASS" and not self.uncaught)

    @property
    def cases(self) -> int:
        return sum(record.cases for record in self.records)


@dataclass(frozen=True)
class Word:
    """One statement of people."""

    statement: Statement
    state: State
    reason: str
    who: str = ""


@dataclass(frozen=True)
class GateScore:
    gate: Gate
    level: int
    verdicts: tuple[Verdict, ...]
    words: tuple[Word, ...]
    missing: tuple[tuple[str, str], ...]  # the shortest list that would lift it to its minimum: (id, why)
    waived_until: str = ""

    @property
    def passes(self) -> bool:
        return self.level >= self.gate.minimum


@dataclass(frozen=True)
class Scorecard:
    gates: tuple[GateScore, ...]
    decision: Decision
    reason: str
    subject: Subject
    at: datetime
    restricted: bool  # not all ten gates were judged
    refused: Mapping[str, str] = field(default_factory=dict)  # attestations that do not count


def judge(
    catalogue: Catalogue,
    records: Iterable[Record],
    said: Said,
    uncaught: Mapping[str, str],
    subject: Subject,
    now: datetime,
    *,
    gates: Sequence[Gate] = (),
    suites: frozenset[str] = frozenset(),
    assessed: Mapping[str, tuple[bool, str]] = MappingProxyType({}),
) -> Scorecard:
    """Judge these gates, or all. `uncaught` says for a control why its sabotage does not count as caught.

    `assessed`: what suites in place of proofs found on this code, by name; one that is not there was not run here."""
    chosen = tuple(gates) or catalogue.gate
    everything = list(records)
    # A failure on this very code is not made undone by trying again; a complete run starts over.
    failed = [r for r in everything if r.status == "FAIL" and r.subject == subject.as_dict()]
    held = [*latest(everything).values(), *failed]
    scores = tuple(_score(gate, held, said, uncaught, subject, now, suites, assessed) for gate in chosen)
    decision, reason = _decide(scores, subject, proven=bool(held))
    restricted = len(chosen) < len(catalogue.gate)
    return Scorecard(scores, decision, reason, subject, now, restricted, said.refused)


def _decide(scores: Sequence[GateScore], subject: Subject, *, proven: bool) -> tuple[Decision, str]:
    below = [score for score in scores if not score.passes]
    blocking = [score for score in below if not score.waived_until]
    late = _only_late(blocking)
    if late:
        return "CANNOT JUDGE", f"the proofs of {', '.join(late)} ran out of time; run make gates again"
    if blocking:
        names = ", ".join(score.gate.name for score in blocking)
        return "PAUSED", f"below the minimum: {names}"
    if subject.dirty:
        return "CANNOT JUDGE", "uncommitted changes: evidence is bound to a commit; commit and run again"
    if not proven:
        return "CANNOT JUDGE", "there is no evidence"
    if below:
        return "CONDITIONAL", "waived: " + ", ".join(f"{s.gate.name} until {s.waived_until}" for s in below)
    return "GO", "every gate is at or above its minimum"


def _only_late(blocking: Sequence[GateScore]) -> list[str]:
    """The controls that keep these gates below, where it is nothing but that their proofs ran out of time."""
    errors = [v for score in blocking for v in score.verdicts if v.state == "ERROR"]
    late = {v.control.id for v in errors if all(r.out_of_time for r in v.records if r.status == "ERROR")}
    missing = {name for score in blocking for name, _ in score.missing}
    return sorted(missing) if missing <= late else []


def _score(
    gate: Gate,
    held: Sequence[Record],
    said: Said,
    uncaught: Mapping[str, str],
    subject: Subject,
    now: datetime,
    suites: frozenset[str],
    assessed: Mapping[str, tuple[bool, str]],
) -> GateScore:
    verdicts = tuple(
        _by_suite(c, assessed)
        if c.suite
        else _verdict(
            c, [r for r in held if r.control == c.id], uncaught.get(c.id, "no sabotage of it was tried"), subject, now
        )
        for c in gate.control
    )
    words = tuple(_word(statement, said) for statement in gate.attest)
    requirements = _requirements(gate, verdicts, words, suites)
    level = next((n for n in (1, 2, 3, 4, 5) if requirements[n]), 6) - 1
    missing = tuple(dict.fromkeys(lack for n in range(1, gate.minimum + 1) for lack in requirements[n]))
    waiver = said.waived.get(gate.id)
    # A waiver never covers a critical control: it helps only where every one of them holds.
    covered = waiver is not None and all(v.counts for v in verdicts if v.control.weight == "critical")
    return GateScore(gate, level, verdicts, words, missing, str(waiver.expires) if waiver and covered else "")


def _requirements(
    gate: Gate, verdicts: Sequence[Verdict], words: Sequence[Word], suites: frozenset[str]
) -> dict[int, list[tuple[str, str]]]:
    """For each level, what it lacks beyond the level below it: (id, why). An empty list is a level reached."""
    critical = [v for v in verdicts if v.control.weight == "critical"]
    standard = [v for v in verdicts if v.control.weight == "standard"]
    advanced = [v for v in verdicts if v.control.weight == "advanced"]
    spoken = [word for word in words if word.statement.weight == "critical"]
    uncaught = [(v.control.id, v.uncaught) for v in critical if v.counts and not v.resists]
    return {
        1: _lacking(critical, 1),
        2: _lacking(critical, math.ceil(len(critical) / 2)),
        3: _lacking(critical, len(critical)) + uncaught + _unsaid(spoken),
        4: _not_resisting(standard, math.ceil(STANDARD_SHARE * len(standard))),
        5: _not_resisting(standard, len(standard))
        + _not_resisting(advanced, math.ceil(ADVANCED_SHARE * len(advanced)))
        + [(f"suite:{name}", "this independent suite has not run") for name in gate.suites if name not in suites]
        + _unsaid(words),
    }


def _lacking(verdicts: Sequence[Verdict], needed: int) -> list[tuple[str, str]]:
    """The fewest controls that would have to pass, those nearest to it first."""
    short = needed - sum(v.counts for v in verdicts)
    nearness = {"STALE": 0, "NOT ASSESSED": 0, "SKIP": 1, "ERROR": 2, "FAIL": 3}
    failing = [v for v in verdicts if not v.counts]
    failing.sort(key=lambda v: (nearness.get(v.state, 9), not v.control.assertions))
    return [(v.control.id, v.reason) for v in failing[: max(0, short)]]


def _not_resisting(verdicts: Sequence[Verdict], needed: int) -> list[tuple[str, str]]:
    """The fewest controls that would have to pass, or to have their sabotage caught; those that pass already first."""
    short = max(0, needed - sum(v.resists for v in verdicts))
    passing = [(v.control.id, v.uncaught) for v in verdicts if v.counts and not v.resists]
    return [*passing, *_lacking([v for v in verdicts if not v.counts], len(verdicts))][:short]


def _unsaid(words: Iterable[Word]) -> list[tuple[str, str]]:
    return [(word.statement.id, word.reason) for word in words if word.state != "PASS"]


def _word(statement: Statement, said: Said) -> Word:
    if statement.id in said.good:
        entry = said.good[statement.id]
        who = " and ".join(person for person in (entry.person, entry.second_person) if person)
        return Word(statement, "PASS", f"until {entry.expires}", who)
    if statement.id in said.expired:
        return Word(statement, "STALE", f"expired on {said.expired[statement.id].expires}")
    if statement.id in said.refused:
        return Word(statement, "ERROR", said.refused[statement.id])
    return Word(statement, "FAIL", "nobody has attested it")


def _by_suite(control: Control, assessed: Mapping[str, tuple[bool, str]]) -> Verdict:
    """A suite shows each of its checks what is wrong on purpose, so that it is its own sabotage."""
    found = assessed.get(control.suite)
    if found is None:
        return Verdict(control, "NOT ASSESSED", f"not assessed here: make test-{control.suite}")
    ok, told = found
    return Verdict(control, "PASS" if ok else "FAIL", told)


def _verdict(control: Control, records: Sequence[Record], uncaught: str, subject: Subject, now: datetime) -> Verdict:
    if not control.assertions:
        return Verdict(control, "FAIL", "no proof yet", uncaught=uncaught)
    fresh = [
        r for r in records if r.subject == subject.as_dict() and _age(r, now) <= timedelta(hours=control.ttl_hours)
    ]
    if not fresh:
        return Verdict(control, *_without_evidence(control, records, subject), tuple(records), uncaught)
    for state in ("FAIL", "ERROR", "SKIP"):
        bad = next((r for r in fresh if r.status == state), None)
        if bad is not None:
            return Verdict(control, bad.status, _told(bad), tuple(fresh), uncaught)
    if all(r.status == "N/A" for r in fresh):
        return Verdict(control, "N/A", fresh[0].detail, tuple(fresh), uncaught)
    gap = _gap(control, fresh)
    return Verdict(control, "FAIL" if gap else "PASS", gap, tuple(fresh), uncaught)


def _without_evidence(control: Control, records: Sequence[Record], subject: Subject) -> tuple[State, str]:
    if not records:
        return "FAIL", "its proofs have not run"
    other = next((r for r in records if r.subject != subject.as_dict()), None)
    if other is None:
        return "STALE", f"the evidence is older than {control.ttl_hours} hours"
    commit = str(other.subject.get("commit", ""))
    if commit != subject.commit:
        return "STALE", f"the evidence is of commit {commit[:12] or 'unknown'}: run make gates again"
    return "STALE", "code or configuration changed since the evidence: run make gates again"


def _gap(control: Control, records: Sequence[Record]) -> str:
    """What these passing records do not cover, in words; empty when they cover the control."""
    if idle := [r.proof for r in records if r.status == "PASS" and not r.driven]:
        return f"no service was started or asked in {idle[0]}"
    if unclear := [r.proof for r in records if r.status == "PASS" and not r.positive]:
        return f"no positive control in {unclear[0]}"
    asserted = {name for r in records for name in r.asserted}
    if never := [name for name in control.assertions if name not in asserted]:
        return f"never asserted: {', '.join(never)}"
    if strange := sorted(asserted - set(control.assertions)):
        return f"asserted but not in the catalogue: {', '.join(strange)}"
    runs = {(r.proof.rpartition("[")[0] or r.proof, r.attempts) for r in records if r.attempts > 1}
    for proof, attempts in runs:
        seen = {r.attempt for r in records if r.proof.startswith(f"{proof}[")}
        if len(seen) < attempts:
            return f"{len(seen)} of {attempts} runs in a row"
    cases = sum(r.cases for r in records)
    return (
        f"{cases} cases, at least {control.cases} are needed (FAST=1 leaves some out)" if cases < control.cases else ""
    )


def _told(record: Record) -> str:
    where = record.proof.rpartition("::")[2]
    return ": ".join(part for part in (record.assertion or record.status.lower(), record.detail or where) if part)


def _age(record: Record, now: datetime) -> timedelta:
    age = now - record.at
    return age if age >= timedelta(minutes=-5) else timedelta.max  # evidence from the future is none
