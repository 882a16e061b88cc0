"""Fault 31: what `--json` prints is for programs, of every command that has it: types of JSON, RFC 3339 times, ids."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.entrypoints import terminal
from app.entrypoints.cli import COMMANDS, GROUPS, load
from gates.rig.databases import NewDatabase
from gates.rig.provider import calls
from gates.rig.world import World, final, opened

RFC_3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")
A_TIME = re.compile(r"^\d{4}-\d\d-\d\d[ T]\d\d:")
WORDS = {"yes", "no", "none", "None", "True", "False", "true", "false", "-", ""}
NUMBER = re.compile(r"^[+-]?\d+(\.\d+)?%?$")
TIMES = {"created", "expires", "asked", "since"}
# Scratch databases of their own, or a server to ask: their rows are plain data, and tested with the commands.
ARGUMENTS = {
    ("runs", "show"): ("RUN",), ("members", "list"): ("--tenant", "TENANT"), ("keys", "list"): ("--tenant", "TENANT"),
    ("usage",): ("--by", "tenant", "--by", "member", "--by", "model"),
    ("reconcile",): ("INVOICE", "--month", "2026-11"), ("retention", "run"): ("--dry-run",),
}  # fmt: skip
EMPTY = {("tools", "list"), ("retention", "run")}  # here; no server is declared, and nothing is due
ELSEWHERE = {
    ("evals", "run"),  # runs the whole evaluation set
    ("version",),  # one document: test_release.py
    ("bom",),  # one document: test_bill_of_materials.py
    ("rollout", "judge"),  # one document and no rows: tests/rollout/test_command.py
    ("rollout", "start"), ("rollout", "rollback"), ("rollout", "status"),  # of a fleet: test_drive_command.py
}  # fmt: skip


def _with_json() -> Iterator[tuple[str, ...]]:
    for name, deferred in {**COMMANDS, **GROUPS}.items():
        command: Any = load(name, deferred)
        subcommands: dict[str, Any] = getattr(command, "commands", {})
        paths: dict[tuple[str, ...], Any] = {(name, sub): each for sub, each in subcommands.items()}
        for path, each in (paths or {(name,): command}).items():
            if any("--json" in parameter.opts for parameter in each.params):
                yield path


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One run that waits, one that is done, a switch that is on and a budget that is frozen."""
    with opened(new_sqlite(), tmp_path_factory.mktemp("json")) as made:
        writer, admin = made.people(["probe_writer"], ["probe_admin"])
        write = calls("probe_write", {"text": "hello"})
        made.run(writer, write, final(), until=("waiting",), documents=[("a\u202e.txt", "text")])
        made.run(writer, final())
        frozen = {"scope": "tenant", "frozen": True, "reason": "a test"}
        assert made.service.call(admin, "PUT", "/v1/budgets", json=frozen).status_code == 200
        made.command("switch", "on", "egress", "--reason", "a test")
        made.who = writer  # type: ignore[attr-defined]
        yield made


def test_every_command_that_prints_json_is_walked() -> None:
    found = set(_with_json())
    assert len(found) >= 14
    assert set(ARGUMENTS) | EMPTY | ELSEWHERE <= found, "a command is gone"


@pytest.mark.parametrize("path", sorted(set(_with_json()) - ELSEWHERE), ids=" ".join)
def test_a_command_prints_types_of_json(world: World, tmp_path: Path, path: tuple[str, ...]) -> None:
    who = world.who  # type: ignore[attr-defined]
    [(tenant,)] = world.sql("SELECT name FROM tenants WHERE id = ?", who.tenant_id)
    [(run,)] = world.sql("SELECT id FROM runs WHERE state = 'waiting'")
    invoice = tmp_path / "invoice.csv"
    invoice.write_text("model,cost_usd\nprobe-model-1,0.5\n")
    values = {"TENANT": tenant, "RUN": run, "INVOICE": str(invoice)}
    arguments = [values.get(each, each) for each in ARGUMENTS.get(path, ())]
    done = world.command(*path, *arguments, "--json")
    assert done.returncode in {0, 1}, done.stderr
    rows = json.loads(done.stdout)
    assert rows or path in EMPTY
    for row in rows:
        for name, value in row.items():
            _is_data(name, value)
        for name in {"tenant", "member"} & set(row):
            assert f"{name}_id" in row, f"{name} without its id"


def _is_data(name: str, value: Any) -> None:
    if isinstance(value, list):
        for each in value:
            _is_data(name, each)
    elif isinstance(value, str):
        assert value not in WORDS, f"{name}: {value!r} is a word for a type that JSON has"
        assert RFC_3339.match(value) or not A_TIME.match(value), f"{name}: {value!r} is no time of RFC 3339"
        assert not NUMBER.match(value) or name.endswith(("_usd", "id")), f"{name}: {value!r} is a number in a text"
    if name in TIMES and value is not None:
        assert RFC_3339.match(value), f"{name}: {value!r}"


def test_the_values_of_one_row_in_json_and_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "on": True, "off": False, "nothing": None, "some": ["a", "b"], "share": terminal.Share(0.021),
        "at": datetime(2026, 11, 27, 1, 2, 3, tzinfo=UTC), "name": "a\u202eb",
    }  # fmt: skip
    terminal.show([row], as_json=True, empty="")
    told = json.loads(capsys.readouterr().out)
    assert told == [row | {"at": "2026-11-27T01:02:03.000000Z", "share": 0.021}]
    terminal.show([row], as_json=False, empty="")
    shown = capsys.readouterr().out
    for word in ("yes", "no", "-", "a, b", "+2.10%", "2026-11-27 01:02:03Z", "a?b"):
        assert word in shown, word


def test_what_has_no_form_in_json_is_not_made_a_text_of() -> None:
    with pytest.raises(TypeError, match="Decimal"):
        terminal.show([{"cost": Decimal("1.5")}], as_json=True, empty="")
