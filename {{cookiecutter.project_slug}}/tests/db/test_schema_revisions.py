"""What `app migrate` records of the schema, and what code makes of a schema that newer code has migrated."""

import pytest
import sqlalchemy as sa
from alembic import command

from app.db.connections import sync_engine
from app.db.models import SchemaRevision
from app.db.schema_revisions import SchemaNewer
from app.entrypoints import revisions, schema
from app.settings import ROOT
from gates.rig.databases import owner_of, settings_on
from gates.rig.newer_code import newest

NEWER, NEWEST = "t9998", "t9999"
Recorded = dict[str, str | None]


def _say(database_url: str, *statements: sa.Executable | str) -> list[tuple[object, ...]]:
    engine, rows = sync_engine(owner_of(database_url)), []
    with engine.begin() as connection:
        for statement in statements:
            done = connection.execute(sa.text(statement) if isinstance(statement, str) else statement)
            rows = [tuple(row) for row in done] if done.returns_rows else []
    engine.dispose()
    return rows


def _recorded(database_url: str) -> dict[object, object]:
    rows = _say(database_url, "SELECT revision, readable_by FROM schema_revisions")
    return {revision: named for revision, named in rows}  # noqa: C416 - a row of any length is no pair to mypy


def _newer(database_url: str, recorded: Recorded) -> None:
    """As newer code leaves it: its newest migration is the head."""
    _say(
        database_url,
        "UPDATE alembic_version SET version_num = 't9999' WHERE version_num LIKE 't%'",
        *(
            sa.insert(SchemaRevision).values(revision=revision, readable_by=named, recorded_by="9.9")
            for revision, named in recorded.items()
        ),
    )


def test_migrations_record_themselves_forth_and_back(database_url: str) -> None:
    settings, every = settings_on(database_url), revisions.readability(ROOT / "migrations")
    assert _recorded(database_url) == every
    assert every["t0013"] == "t0012"
    config = schema.alembic_config(settings)
    command.downgrade(config, "t0013")
    command.upgrade(config, "heads")  # no `app migrate`: each step is recorded in its own transaction
    assert _recorded(database_url) == every
    _say(database_url, "INSERT INTO schema_revisions VALUES ('gone', 't0001', '0')")
    schema.migrate(settings)
    assert _recorded(database_url) == every


def test_a_permission_that_was_changed_since_is_recorded_by_the_next_migrate(database_url: str) -> None:
    _say(database_url, "UPDATE schema_revisions SET readable_by = 't0001' WHERE revision IN ('t0013', 't0002')")
    schema.migrate(settings_on(database_url))
    assert _recorded(database_url) == revisions.readability(ROOT / "migrations")


@pytest.mark.parametrize(
    ("recorded", "named"),
    [
        ({NEWER: "t0001", NEWEST: None}, f"Migration {NEWEST} .*9.9.* no older code can work"),
        ({NEWER: None, NEWEST: "t0001"}, f"Migration {NEWER} .*9.9.* no older code can work"),
        ({NEWER: "t0001", NEWEST: NEWER}, f"Migration {NEWEST} .* only code with migration {NEWER} can work"),
        ({NEWER: "t0001"}, f"Migration {NEWEST} .* has not recorded it"),
    ],
)
def test_a_schema_that_one_newer_migration_closes_is_refused(database_url: str, recorded: Recorded, named: str) -> None:
    settings = settings_on(database_url)
    _newer(database_url, recorded)
    for refused in (schema.require_current, schema.migrate):
        with pytest.raises(SchemaNewer, match=f"{named}.*roll forward"):
            refused(settings)


def test_a_schema_whose_newer_migrations_all_let_this_code_work_is_current_and_left_alone(database_url: str) -> None:
    settings = settings_on(database_url)
    _newer(database_url, {NEWER: newest(), NEWEST: "t0001"})
    before = _recorded(database_url)
    schema.require_current(settings)
    assert not schema.migrate(settings)
    assert _recorded(database_url) == before


def test_newer_migrations_do_not_stand_in_for_a_missing_one_of_this_code(database_url: str) -> None:
    _newer(database_url, {NEWEST: "t0001"})
    _say(database_url, "DELETE FROM schema_revisions WHERE revision = 't0011'")
    with pytest.raises(SchemaNewer, match="lacks migration t0011 of this code"):
        schema.require_current(settings_on(database_url))
