"""Gate 4, error handling: a database that answers and takes no writes, as the old primary does after a failover."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import sql

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.world import World, final

SOON = 15.0  # seconds until all is well again
OTHER_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@contextmanager
def _read_only(owner_url: str) -> Iterator[None]:
    """The old sessions are gone; those that begin until the block ends cannot write, for as long as they last."""
    with psycopg.connect(owner_url, autocommit=True) as owner:
        name = sql.Identifier(owner.info.dbname)
        owner.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
        owner.execute(OTHER_SESSIONS)
        yield
        owner.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))


def _start(world: World, who: Person) -> tuple[int, str, object]:
    answer = world.service.start_run(who, world.model.script(final()).task(), feature="probe")
    body = answer.json()
    return answer.status_code, str(body.get("code", "")), body.get("retryable")


@pytest.mark.timeout(2_800)
@control("ERR-12", cases=5)
def test_a_database_that_takes_no_writes(proof: Proof, new_world: NewWorld, new_postgres: NewDatabase) -> None:
    """fault 10"""
    with new_world(database_url=new_postgres(), EMBEDDED_WORKER="false", DATABASE_TIMEOUT_S="5") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("all is well"):
            assert _start(world, who)[0] == 202
        with _read_only(world.owner_url):
            seen = _start(world, who)
            proof.same("as-declared", seen, (503, "service.store_unavailable", True), "read-only, a run is started:")
            reads = {world.service.call(who, "GET", "/v1/runs").status_code for _ in range(4)}
            proof.same("goes-on", reads, {200}, "read-only, what reads:")
            ready, alive = (world.service.call(None, "GET", path).status_code for path in ("/readyz", "/livez"))
            proof.same("goes-on", (ready, alive), (503, 200), "read-only, readiness and liveness:")
        proof.soon("recovers", lambda: _start(world, who)[0] == 202, SOON, "a run is started:")
        proof.soon(
            "recovers", lambda: world.service.call(None, "GET", "/readyz").status_code == 200, SOON, "readiness:"
        )
