"""What suites beside the proofs found, kept with the code it is about.

Level 5 asks for those from outside: one counts if it was run whole and holds, on this very code.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gates import evidence, subject
from gates.subject import Subject

AGENTDOJO = evidence.FILE.with_name("agentdojo.json")  # written by `make redteam`
SCHEMATHESIS = evidence.FILE.with_name("schemathesis.json")  # written by `make contract`
MATRIX = evidence.FILE.with_name("matrix.json")  # written by `make matrix`: the template's own, as the next one
FUZZ = evidence.FILE.with_name("fuzz.json")  # written by `make fuzz`
CONTAINERS = evidence.FILE.with_name("containers.json")  # written by `make test-containers`
FRESH = timedelta(days=7)


def keep(file: Path, *, ok: bool, complete: bool, **found: Any) -> None:
    """Write down what a suite found, when, and on which code."""
    verdict = {"ok": ok, "complete": complete, "mode": "guarded", "at": datetime.now(UTC).isoformat(), **found}
    file.parent.mkdir(exist_ok=True)
    told = json.dumps({**verdict, "subject": subject.current().as_dict()}, indent=1, ensure_ascii=False)
    file.write_text(told + "\n", encoding="utf-8")


def passed(subject: Subject, now: datetime) -> frozenset[str]:
    """The names of the suites from outside that hold for this subject."""
    found = {"agentdojo": AGENTDOJO, "schemathesis": SCHEMATHESIS}
    return frozenset(name for name, file in found.items() if _holds(file, subject, now))


def assessed(subject: Subject, now: datetime) -> dict[str, tuple[bool, str]]:
    """What suites that need more than every machine has found here, on this very code: (it holds, what was found)."""
    found: dict[str, tuple[bool, str]] = {}
    for name, file in {"containers": CONTAINERS}.items():
        try:
            told = json.loads(file.read_text(encoding="utf-8"))
            fresh = now - datetime.fromisoformat(told["at"]) <= FRESH
            if fresh and told["complete"] and told["subject"] == subject.as_dict():
                ok = told["ok"] is True and told["checked"] > 0
                found[name] = ok, f"{told['checked']} checks" if ok else "; ".join(told["failed"][:1]) or "it failed"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _holds(file: Path, subject: Subject, now: datetime) -> bool:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        fresh = now - datetime.fromisoformat(told["at"]) <= FRESH
        holds = told["ok"] and told["complete"] and told["mode"] == "guarded" and told["subject"] == subject.as_dict()
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(fresh and holds)
