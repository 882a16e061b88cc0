"""Fixtures that tests and proofs share; both name this module in `pytest_plugins`."""

from collections.abc import Iterator

import pytest

from gates.rig.databases import NewDatabase, postgres_databases, sqlite_databases


@pytest.fixture(scope="session")
def new_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewDatabase]:
    with sqlite_databases(tmp_path_factory.mktemp("sqlite")) as new:
        yield new


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[NewDatabase]:
    with postgres_databases() as new:
        yield new
