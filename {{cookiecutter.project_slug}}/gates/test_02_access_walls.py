"""Gate 2, access: what stands between tenants when the code forgets to."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import psycopg

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.canaries import canary
from gates.rig.databases import NewDatabase, belongs_to
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.tool_server import tool_server
from gates.rig.world import World, final

REQUESTS = 200


def _counts(connection: psycopg.Connection[Any], tables: list[str]) -> dict[str, int]:
    """How many rows of each table this connection sees."""
    found = {}
    for table in tables:
        row = connection.execute(f'SELECT count(*) FROM "{table}"'.encode()).fetchone()
        found[table] = int(row[0]) if row else 0
    return found


def _as_tenant(connection: psycopg.Connection[Any], tenant_id: str) -> None:
    connection.execute("SELECT set_config('app.tenant_id', %s, true)", (tenant_id,))


@control("AUT-05", cases=225)
def test_a_query_that_forgets_its_tenant_sees_nothing(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres()) as world:
        roles = (["probe_writer", "probe_reader"], ["probe_approver"])
        (mine, _), (theirs, _) = world.people(*roles), world.people(*roles)
        for who in (mine, theirs):
            world.run(who, calls("probe_write", {"text": "x"}), final(), until=("waiting",))
        named = "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = "
        tables = sorted(str(name) for (name,) in world.sql(f"{named}'tenant_id'"))
        filled = [table for table in tables if world.sql(f'SELECT 1 FROM "{table}" LIMIT 1')]
        with psycopg.connect(world.service.database_url) as connection:
            with proof.positive("with its tenant said, the service's own role sees that tenant's rows"):
                _as_tenant(connection, mine.tenant_id)
                seen = _counts(connection, ["runs", "members", "approvals", "audit_events"])
                assert seen["runs"] >= 1
                assert all(seen.values())
                connection.rollback()
            proof.holds("no-tenant", len(filled) >= 7, filled)
            for table, count in _counts(connection, [*tables, "tenants"]).items():
                proof.same("no-tenant", count, 0, table)
            _as_tenant(connection, mine.tenant_id)
            for table in filled:
                foreign = f'SELECT count(*) FROM "{table}" WHERE tenant_id <> %s'.encode()
                proof.same("foreign", connection.execute(foreign, (mine.tenant_id,)).fetchone(), (0,), table)
                moved = connection.execute(
                    f'UPDATE "{table}" SET tenant_id = tenant_id WHERE tenant_id = %s'.encode(), (theirs.tenant_id,)
                ) if table != "audit_events" else None  # which nobody may change at all  # fmt: skip
                proof.same("foreign", moved.rowcount if moved else 0, 0, f"UPDATE {table}")
            _insert_refused(proof, connection, theirs)
        _alternating(proof, world, mine, theirs)


def _insert_refused(proof: Proof, connection: psycopg.Connection[Any], theirs: Person) -> None:
    """A row for another tenant, and one's own row moved there, are refused."""
    statements = {
        "INSERT": "INSERT INTO members (id, tenant_id, name, roles, created_at) VALUES ('x', %s, 'x', '[]', now())",
        "UPDATE": "UPDATE members SET tenant_id = %s",
    }
    for what, statement in statements.items():
        connection.execute("SAVEPOINT before")
        try:
            connection.execute(statement.encode(), (theirs.tenant_id,))
            told = "done"
        except psycopg.errors.InsufficientPrivilege as error:
            told = str(error)
        connection.execute("ROLLBACK TO before")
        proof.holds("foreign", "row-level security" in told, f"{what}: {told[:100]}")


def _alternating(proof: Proof, world: World, mine: Person, theirs: Person) -> None:
    """Both tenants at once on the same pooled connections, with requests that fail in the middle."""

    def ask(number: int) -> tuple[int, Person, Any]:
        who = (mine, theirs)[number % 2]
        path = ("/v1/probe/crash", "/v1/runs", "/v1/probe/forgetful")[number // 2 % 3]
        answer = world.service.call(who, "GET", path)
        return answer.status_code, who, answer.json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(REQUESTS)))
    for status, who, told in answers:
        if status == 500:
            continue
        if "items" in told:
            proof.same("pooled", len(told["items"]), 1, f"runs that {who.name} sees:")
        else:
            proof.same("pooled", told["pooled"], 0, "rows on a pooled connection without a tenant:")
            proof.same("forgotten", told["in_transaction"], 1, "rows of a query without a filter:")
    proof.holds("pooled", [status for status, *_ in answers].count(500) >= REQUESTS // 4, "no request failed")


STATEMENTS = {
    "drop a table": "DROP TABLE runs",
    "change a table": "ALTER TABLE runs ADD COLUMN x int",
    "empty a table": "TRUNCATE runs",
    "make a table": "CREATE TABLE loot (x int)",
    "make a schema": "CREATE SCHEMA loot",
    "take the walls down": "ALTER TABLE runs DISABLE ROW LEVEL SECURITY",
    "not force them": "ALTER TABLE runs NO FORCE ROW LEVEL SECURITY",
    "drop a policy": "DROP POLICY tenant ON runs",
    "make a policy": "CREATE POLICY open ON runs USING (true)",
    "change a record": "UPDATE audit_events SET actor = 'x'",
    "remove a record": "DELETE FROM audit_events",
    "say another version": "UPDATE alembic_version SET version_num = 'x'",
    "let itself work on a newer schema": "UPDATE schema_revisions SET readable_by = 'x'",
    "make a role": "CREATE ROLE loot SUPERUSER",
    "make itself an owner": "GRANT {owner} TO CURRENT_USER",
    "become another": "SET ROLE {owner}",
    "read a file": "COPY runs FROM '/etc/passwd'",
    "run a program": "COPY runs FROM PROGRAM 'id'",
    "read what others ask": "SELECT rolpassword FROM pg_authid",
    "drop the engine's": "DROP TABLE dbos.workflow_status",
}


@control("SEC-07", cases=24)
def test_the_service_s_role_can_do_its_work_and_nothing_else(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres()) as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("the service works under its own role"):
            assert world.run(who, calls("probe_lookup", {"query": "a"}), final()).state["state"] == "succeeded"
        owner = str(urlsplit(world.owner_url).username)
        with psycopg.connect(world.service.database_url, autocommit=True) as connection:
            for what, statement in STATEMENTS.items():
                try:
                    connection.execute(statement.replace("{owner}", owner).encode())
                    told = "done"
                except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
                    told = type(error).__name__
                proof.same("no-power", told, "InsufficientPrivilege", what)
        belongs_to(world.service.database_url, "staging")
        for url, expected in ((world.service.database_url, 0), (world.owner_url, 2)):
            done = world.command("doctor", DATABASE_URL=url, ENVIRONMENT="staging", PUBLIC_URL="https://x.rig.test")
            proof.same("refuses-powers", done.returncode, expected, done.stderr[-300:])
            proof.holds("refuses-powers", expected == 0 or "DATABASE_URL: its role is a superuser" in done.stderr)


@control("SEC-07", cases=3)
def test_a_tool_server_is_sent_its_own_secret_only(proof: Proof, new_world: NewWorld) -> None:
    mine, others = canary("of-the-rig"), canary("of-another")
    with (
        tool_server() as server,
        new_world(server=server, TOOL_SECRETS=json.dumps({"other": others, "rig": mine})) as world,
    ):
        [who] = world.people(["hazard_runner"])
        with proof.positive("the tool is called"):
            world.run(who, calls("rig_find", {"name": "Ada"}), final(), feature="hazard")
            assert server.called == [("find", {"name": "Ada"})]
        sent = str(server.headers)
        proof.holds("own-secret", mine in sent, "its own secret did not arrive")
        proof.holds("own-secret", others not in sent, "another server's secret arrived")
        told = json.dumps(world.model.requests)
        proof.holds("own-secret", mine not in told and others not in told, "the model was told a secret")
