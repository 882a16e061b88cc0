"""The text of a database error carries no value of a statement, on any engine of the process (fault 8)."""

import asyncio
import gc
import traceback

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError

from app.bootstrap import open_runtime
from app.db.connections import sync_engine
from app.runs.engine import DurableQueue, running_worker
from app.settings import Settings, load_settings

WORDS = "my words of 2026"


def _text(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error)


def _text_of_failure(engine: sa.Engine) -> str:
    with engine.connect() as connection, pytest.raises(DBAPIError) as raised:
        connection.execute(sa.text("SELECT * FROM nowhere WHERE words = :words"), {"words": WORDS})
    return _text(raised.value)


def _engines_of_a_process(settings: Settings) -> list[sa.Engine]:
    """Every engine that there is while a process serves, works and enqueues, whoever made it."""

    async def advance(_run: str, _segment: int) -> str:
        return "done"

    async def process() -> list[sa.Engine]:
        async with open_runtime(settings, durable=False), running_worker(settings, advance):
            queue = DurableQueue(settings)
            await queue._client.list_workflows_async()
            engines = [each for each in gc.get_objects() if isinstance(each, sa.Engine)]
            queue.close()
        return [each for each in engines if each.url.database == make_url(settings.database_url).database]

    return asyncio.run(process())


def test_no_engine_of_a_process_tells_values(database_url: str) -> None:
    """fault 8: the engines that SQLAlchemy and the durable engine make, all of them."""
    engines = _engines_of_a_process(load_settings(database_url=database_url, environment="test"))
    blocking = [engine for engine in engines if not engine.dialect.is_async]
    assert blocking
    assert len(blocking) < len(engines)
    assert [engine for engine in engines if engine.dialect.is_async and not engine.hide_parameters] == []
    for engine in blocking:
        assert WORDS not in _text_of_failure(engine)
        engine.dispose()


def test_an_engine_that_a_library_makes_tells_no_values(database_url: str) -> None:
    """As the durable engine's migrations make one: without a word about what to hide."""
    engine = sa.create_engine(sync_engine(database_url).url)
    assert WORDS not in _text_of_failure(engine)
    engine.dispose()


def test_what_a_server_says_of_a_row_is_not_repeated(database_url: str) -> None:
    """A further input of fault 8: PostgreSQL names the key that exists, and the row that fails a check."""
    engine = sync_engine(database_url)
    with engine.connect() as connection:
        connection.execute(
            sa.text("CREATE TEMPORARY TABLE words (words VARCHAR(99) PRIMARY KEY, number INTEGER NOT NULL)")
        )
        connection.execute(sa.text("INSERT INTO words VALUES (:words, 1)"), {"words": WORDS})
        for row in ({"words": WORDS, "number": 1}, {"words": WORDS + "!", "number": None}):
            savepoint = connection.begin_nested()
            with pytest.raises(IntegrityError) as raised:
                connection.execute(sa.text("INSERT INTO words VALUES (:words, :number)"), row)
            savepoint.rollback()
            assert WORDS not in _text(raised.value)
            assert "constraint" in str(raised.value)
    engine.dispose()
