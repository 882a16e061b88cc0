"""A suite counts only when it was run whole, held, and is about this very code."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gates import subject, suites

NOW = datetime(2026, 11, 24, tzinfo=UTC)


def _written(file: Path, **changes: Any) -> None:
    told = {
        "at": NOW.isoformat(),
        "ok": True,
        "complete": True,
        "mode": "guarded",
        "subject": subject.current().as_dict(),
    }
    file.write_text(json.dumps({**told, **changes}))


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"ok": False}, False),
        ({"complete": False}, False),
        ({"mode": "unguarded"}, False),
        ({"subject": {"commit": "another"}}, False),
        ({"at": (NOW - timedelta(days=8)).isoformat()}, False),
        ({"at": "yesterday"}, False),
    ],
)
def test_only_a_whole_run_on_this_code_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], counts: bool
) -> None:
    monkeypatch.setattr(suites, "AGENTDOJO", tmp_path / "agentdojo.json")
    monkeypatch.setattr(suites, "SCHEMATHESIS", tmp_path / "schemathesis.json")
    assert suites.passed(subject.current(), NOW) == frozenset()
    _written(suites.AGENTDOJO, **changes)
    assert suites.passed(subject.current(), NOW) == (frozenset({"agentdojo"}) if counts else frozenset())
