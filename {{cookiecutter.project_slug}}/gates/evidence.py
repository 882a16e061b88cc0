"""Evidence: one record for each run of each proof, appended to .gates/evidence.jsonl and never edited."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from gates.catalogue import ROOT

FILE = ROOT / ".gates" / "evidence.jsonl"
OUT_OF_TIME = "OutOfTime"  # how the detail of a proof begins whose time ran out
Status = Literal["PASS", "FAIL", "ERROR", "SKIP", "N/A"]


class EvidenceUnreadable(Exception):
    """The evidence cannot be judged; the message names the line."""


@dataclass(frozen=True)
class Record:
    control: str
    proof: str  # file::function[variant]
    status: Status
    cases: int
    minimum: int
    positive: tuple[str, ...]  # what legitimately worked in the same proof, before anything was refused
    asserted: dict[str, int]  # cases by name of the assertion
    assertion: str | None  # the one that did not hold
    detail: str
    attempt: int
    attempts: int  # a race must pass this many times in a row
    started: str
    seconds: float
    subject: dict[str, Any]
    proof_sha256: str
    versions: dict[str, str] = field(default_factory=dict)
    driven: int = 0  # how often a service was started, or connected to

    @property
    def out_of_time(self) -> bool:
        """Whether the proof could not judge because its time ran out, which says nothing of the control."""
        return self.status == "ERROR" and self.detail.startswith(OUT_OF_TIME)

    @property
    def at(self) -> datetime:
        return datetime.fromisoformat(self.started)


_RECORD = TypeAdapter(Record)


def append(records: Iterable[Record], file: Path = FILE) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as out:
        for record in records:
            out.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")


def read(file: Path = FILE) -> list[Record]:
    """Every record, oldest first; none where there is no file. Raises EvidenceUnreadable."""
    if not file.exists():
        return []
    # A last line without its end is still being written.
    lines, _, _ = file.read_text(encoding="utf-8", errors="replace").rpartition("\n")
    return [_record(line, f"{file.name}, line {number}") for number, line in enumerate(lines.splitlines(), 1)]


def _record(line: str, where: str) -> Record:
    try:
        record = _RECORD.validate_json(line)
        zoned = record.at.tzinfo is not None
    except ValidationError as error:
        issue = error.errors(include_input=False)[0]
        raise EvidenceUnreadable(f"{where}: {'.'.join(map(str, issue['loc']))} {issue['msg']}") from None
    except ValueError as error:
        raise EvidenceUnreadable(f"{where}: {error}") from None
    if not zoned:
        raise EvidenceUnreadable(f"{where}: started has no time zone")
    return record


def latest(records: Iterable[Record]) -> dict[str, Record]:
    """The last record of each proof; what counts is what happened last."""
    return {record.proof: record for record in records}
