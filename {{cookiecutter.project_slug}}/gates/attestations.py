"""attestations.toml: what only people can say, with a name, a date, an expiry and where it can be looked up."""

import datetime as dt
import tomllib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gates.catalogue import ROOT, Catalogue, Statement

FILE = ROOT / "attestations.toml"
LONGEST_WAIVER = dt.timedelta(days=14)


class AttestationsUnreadable(Exception):
    """attestations.toml cannot be judged; the message says where and why."""


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Attestation(Entry):
    id: str
    statement: str  # the catalogue's words: whoever signs has read them
    person: str = Field(min_length=1)
    second_person: str = ""
    date: dt.date
    expires: dt.date
    evidence: str = Field(min_length=1, description="a link, or sha256:… of a document")


class Waiver(Entry):
    """Launch without a gate's minimum, for at most fourteen days. It never changes a score."""

    gate: str
    people: tuple[str, str]
    reason: str = Field(min_length=10)
    date: dt.date
    expires: dt.date


class File(Entry):
    attestation: tuple[Attestation, ...] = ()
    waiver: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Said:
    """What counts, and why the rest does not."""

    good: Mapping[str, Attestation] = field(default_factory=dict)
    expired: Mapping[str, Attestation] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)  # by id: why
    waived: Mapping[str, Waiver] = field(default_factory=dict)  # by gate


def load(catalogue: Catalogue, today: dt.date, file: Path = FILE) -> Said:
    """Raises AttestationsUnreadable for a file that is no such file; what one entry lacks only refuses that entry."""
    if not file.exists():
        return Said()
    try:
        read = File.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        issues = (f"{'.'.join(map(str, i['loc']))}: {i['msg']}" for i in error.errors(include_input=False))
        raise AttestationsUnreadable(f"{file.name}: {'; '.join(issues)}") from None
    except (OSError, ValueError) as error:
        raise AttestationsUnreadable(f"{file.name}: {error}") from None
    good, expired, refused = {}, {}, {}
    for entry in read.attestation:
        reason = _refusal(entry, catalogue.statements.get(entry.id), today)
        if reason:
            refused[entry.id] = reason
        elif entry.expires < today:
            expired[entry.id] = entry
        else:
            good[entry.id] = entry
    return Said(good, expired, refused | _refused_waivers(read, catalogue, today), _waivers(read, catalogue, today))


def _refusal(entry: Attestation, statement: Statement | None, today: dt.date) -> str:
    if statement is None:
        return "the catalogue has no such statement"
    longest = dt.timedelta(days=statement.days)
    problems = {
        "the statement is not the catalogue's": entry.statement.split() != statement.statement.split(),
        "the date lies in the future": entry.date > today,
        "it expires before it begins": entry.expires < entry.date,
        f"it may hold for {statement.days} days at most": entry.expires - entry.date > longest,
        "two different people must sign": statement.people == 2
        and _name(entry.second_person) in {"", _name(entry.person)},
    }
    return next((problem for problem, present in problems.items() if present), "")


def _waivers(read: File, catalogue: Catalogue, today: dt.date) -> dict[str, Waiver]:
    return {w.gate: w for w in read.waiver if not _waiver_refusal(w, catalogue, today)}


def _refused_waivers(read: File, catalogue: Catalogue, today: dt.date) -> dict[str, str]:
    found = {f"waiver of {w.gate}": _waiver_refusal(w, catalogue, today) for w in read.waiver}
    return {name: reason for name, reason in found.items() if reason}


def _waiver_refusal(waiver: Waiver, catalogue: Catalogue, today: dt.date) -> str:
    gates: dict[str, Any] = {gate.id: gate for gate in catalogue.gate}
    gate = gates.get(waiver.gate)
    if gate is None or not gate.waivable:
        allowed = ", ".join(g.id for g in catalogue.gate if g.waivable) or "none"
        return f"this gate cannot be waived (these can: {allowed})"
    problems = {
        "two different people must sign": _name(waiver.people[0]) == _name(waiver.people[1]),
        "no person is named": not all(map(_name, waiver.people)),
        "the date lies in the future": waiver.date > today,
        "it may hold for 14 days at most": waiver.expires - waiver.date > LONGEST_WAIVER,
        "it has expired": waiver.expires < today,
    }
    return next((problem for problem, present in problems.items() if present), "")


def _name(person: str) -> str:
    """A person's name without what cannot be seen: two spellings of one name are one person."""
    plain = unicodedata.normalize("NFKC", person)
    seen = "".join(char for char in plain if unicodedata.category(char) not in {"Cf", "Cc", "Co", "Cn"})
    return " ".join(seen.casefold().split())
