"""fault 11: PgBouncer in transaction mode gives a session for a transaction only. `make test-odd` runs a real one."""

from collections.abc import AsyncGenerator
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from app.config_files import SettingsInvalid
from app.db.connections import sync_engine
from app.db.engine import Database
from app.db.sessions import SessionsShared, are_shared, require_own_sessions
from app.db.tenancy import ALL_TENANTS
from app.settings import load_settings
from gates.rig.databases import NewDatabase

pytestmark = pytest.mark.anyio
PREPARED = sa.text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
async def server(new_postgres: NewDatabase) -> str:
    return new_postgres()


@pytest.fixture(params=[False, True], ids=["direct", "pooled"])
async def db(server: str, request: pytest.FixtureRequest) -> AsyncGenerator[tuple[Database, bool]]:
    made = Database(server, session_url=f"{server}&application_name=x" if request.param else server)
    yield made, request.param
    await made.close()


async def test_nothing_is_left_prepared_in_a_session_that_may_be_anothers_next(db: tuple[Database, bool]) -> None:
    made, is_pooled = db
    prepared = 0
    for _ in range(12):
        async with made.transaction(ALL_TENANTS) as session:
            prepared = max(prepared, await session.scalar(PREPARED) or 0)
        prepared = max(prepared, await made.at_once(lambda c: c.scalar(PREPARED)) or 0)
    assert (prepared == 0) is is_pooled, "without a pooler a statement that is repeated is prepared"


async def test_sessions_of_the_server_itself_are_not_shared(server: str) -> None:
    require_own_sessions(server, "DATABASE_URL")


async def test_two_connections_in_one_session_are_found_out(server: str) -> None:
    """One connection under both stands for a pooler that gives its only free session to whoever asks."""
    engine = sync_engine(server, poolclass=sa.StaticPool, isolation_level="AUTOCOMMIT")
    assert are_shared(engine)
    engine.dispose()


@pytest.mark.parametrize("asked", [2, 3, 5])
def test_sessions_that_are_given_in_turn_are_found_out(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """PgBouncer's server_round_robin: with two sessions and one statement each, nobody would meet another's."""
    turns = iter(number % asked for number in range(1_000))

    connection = SimpleNamespace(scalar=lambda _: next(turns))
    engine = sa.create_engine("sqlite://")
    monkeypatch.setattr(engine, "connect", lambda: nullcontext(connection))
    assert are_shared(engine)


@pytest.mark.parametrize("setting", ["DATABASE_URL", "DIRECT_DATABASE_URL", "MIGRATION_DATABASE_URL"])
async def test_the_refusal_names_the_setting(server: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.db.sessions.are_shared", lambda _: True)
    with pytest.raises(SessionsShared, match=rf"^{setting} leads to .*pool_mode=transaction"):
        require_own_sessions(server, setting)


@pytest.mark.parametrize(
    ("database", "direct"),
    [("sqlite:///data/app.db", "postgresql://app@db/app"), ("postgresql://app@db/app", "mysql://app@db/app")],
)
def test_a_direct_address_that_makes_no_sense_is_named(database: str, direct: str) -> None:
    with pytest.raises(SettingsInvalid, match="DIRECT_DATABASE_URL"):
        load_settings(database_url=database, direct_database_url=direct)


def test_what_needs_a_session_goes_by_the_direct_address() -> None:
    pooled, direct, owner = (f"postgresql://{name}@db/app" for name in ("pooled", "direct", "owner"))
    assert load_settings(database_url=pooled).session_database_url == pooled
    assert load_settings(database_url=pooled, direct_database_url=direct).owner_database_url == direct
    both = load_settings(database_url=pooled, direct_database_url=direct, migration_database_url=owner)
    assert (both.session_database_url, both.owner_database_url) == (direct, owner)


def test_its_password_is_a_secret() -> None:
    assert (
        "s3cret"
        in load_settings(
            database_url="postgresql://app@db/app", direct_database_url="postgresql://app:s3cret@db/app"
        ).secrets
    )
