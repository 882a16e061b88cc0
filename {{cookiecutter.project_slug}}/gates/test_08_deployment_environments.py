"""Gate 8, deployment: a process of one environment never works on the database of another."""

import json
import subprocess
from typing import Any

import psycopg
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.provider import calls
from gates.rig.world import World, final

FOREIGN = "development"  # the rig's databases are those of `test`
COMMANDS = (
    "doctor", "tenants list", "switch on runs --reason mistaken", "migrate", "retention run", "worker", "serve",
)  # fmt: skip
ENDS_WITHIN_S = 240  # on a machine with many times the load; what goes on working is ended then


def _identity(world: World) -> list[tuple[Any, ...]]:
    return world.sql("SELECT id, environment FROM database_environment")


def _state(world: World) -> list[Any]:
    """What a command of the foreign environment could have changed."""
    ends = world.sql("SELECT tenant_id, sequence FROM audit_heads ORDER BY tenant_id")
    return [_identity(world), ends, world.sql("SELECT name FROM switches"), world.sql("SELECT * FROM alembic_version")]


def _exit(world: World, *arguments: str, **settings: str) -> tuple[int | None, str]:
    """Exit code and last words of a command; None where it goes on working."""
    try:
        done = world.command(*arguments, timeout=ENDS_WITHIN_S, **settings)
    except subprocess.TimeoutExpired:
        return None, "it went on working"
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.timeout(600)
@control("DEP-12", cases=17)
def test_a_process_of_another_environment_ends_before_it_changes_anything(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("under the database's own environment the service and its commands work"):
            assert world.run(who, calls("probe_lookup", {"query": "a"}), final()).state["state"] == "succeeded"
            assert _exit(world, "tenants", "list")[0] == 0
        before = _state(world)
        for command in COMMANDS:
            code, said = _exit(world, *command.split(), ENVIRONMENT=FOREIGN)
            proof.same("refused", code, 2, f"{command}: {said[-200:]}")
            named = f"ENVIRONMENT is {FOREIGN}" in said and "belongs to test" in said and "Traceback" not in said
            proof.holds("names-both", named, said[-300:])
        proof.same("nothing-changed", _state(world), before)
        assert _exit(world, "migrate")[0] == 0
        proof.same("recorded-once", _identity(world), before[0], "after another `app migrate`:")
        proof.same("recorded-once", before[0][0][1], "test")


@pytest.mark.timeout(600)
@control("DEP-12", cases=12)
def test_a_copy_changes_its_environment_only_on_purpose(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres()) as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("a key of the original works until the copy is adopted"):
            assert world.service.call(who, "GET", "/v1/runs").status_code == 200
        before = _identity(world)
        with psycopg.connect(world.service.database_url, autocommit=True) as connection:
            for statement in ("UPDATE database_environment SET environment = 'x'", "DELETE FROM database_environment"):
                try:
                    connection.execute(statement.encode())
                    told = "done"
                except psycopg.errors.InsufficientPrivilege:
                    told = "refused"
                proof.same("role-cannot-rename", told, "refused", statement)
        as_owner = {"MIGRATION_DATABASE_URL": world.owner_url, "ENVIRONMENT": FOREIGN}
        adopt = ("database", "adopt", "--reason", "a drill of the restore")
        assert _exit(world, *adopt, "--dry-run", **as_owner)[0] == 0
        proof.same("dry-run", _identity(world), before)
        code, said = _exit(world, *adopt, **as_owner)
        proof.same("adopted", code, 0, said[-300:])
        [(new_id, environment)] = _identity(world)
        proof.same("adopted", environment, FOREIGN)
        proof.holds("adopted", new_id != before[0][0], "the copy has the id of the original")
        proof.same("adopted", _exit(world, "doctor", ENVIRONMENT=FOREIGN)[0], 0, "doctor of the new environment")
        proof.same("refused", _exit(world, "doctor")[0], 2, "doctor of the old environment")
        proof.same("runs-halted", world.sql("SELECT name FROM switches"), [("runs",)])
        status = world.service.call(who, "GET", "/v1/runs").status_code
        proof.same("keys-revoked", status, 401, "a key of the original")
        records = world.sql("SELECT subject, data FROM audit_events WHERE action = 'database.adopted'")
        proof.same("on-record", [subject for subject, _ in records], [f"database:{new_id}"])
        data = records[0][1] if isinstance(records[0][1], dict) else json.loads(records[0][1])
        seen = {name: data[name] for name in ("from", "to", "reason", "keys_revoked")}
        expected = {"from": "test", "to": FOREIGN, "reason": "a drill of the restore", "keys_revoked": 1}
        proof.same("on-record", seen, expected)
