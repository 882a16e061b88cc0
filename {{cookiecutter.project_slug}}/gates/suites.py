"""Suites from outside that level 5 asks for: what each found, if it was run whole, on this very code."""

import json
from datetime import datetime, timedelta
from pathlib import Path

from gates import evidence
from gates.subject import Subject

AGENTDOJO = evidence.FILE.with_name("agentdojo.json")  # written by `make redteam`
SCHEMATHESIS = evidence.FILE.with_name("schemathesis.json")  # written by `make contract`
FRESH = timedelta(days=7)


def passed(subject: Subject, now: datetime) -> frozenset[str]:
    """The names of the suites that hold for this subject."""
    found = {"agentdojo": AGENTDOJO, "schemathesis": SCHEMATHESIS}
    return frozenset(name for name, file in found.items() if _holds(file, subject, now))


def _holds(file: Path, subject: Subject, now: datetime) -> bool:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        fresh = now - datetime.fromisoformat(told["at"]) <= FRESH
        holds = told["ok"] and told["complete"] and told["mode"] == "guarded" and told["subject"] == subject.as_dict()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(fresh and holds)
