"""Fixtures: a database of each kind, the parts built on it, the service running on it."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import pytest

from app.bootstrap import open_runtime
from app.entrypoints.proxies import exempt_loopback
from app.runtime import Runtime
from app.settings import Settings, load_settings
from gates.rig.databases import NewDatabase
from gates.rig.environment import isolate
from gates.rig.provider import Provider, provider
from gates.rig.service import Service, running

pytest_plugins = ["gates.rig.fixtures"]
DATABASES = ("sqlite", "postgresql")


def pytest_configure() -> None:
    isolate()
    exempt_loopback()  # for the clients of the tests, and of what they start


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, migrated database; a test that asks for it runs once on each kind."""
    new: NewDatabase = request.getfixturevalue("new_sqlite" if request.param == "sqlite" else "new_postgres")
    return new()


@pytest.fixture
async def runtime(database_url: str) -> AsyncGenerator[Runtime]:
    """The parts of the service, without a worker: the test advances runs itself."""
    settings = load_settings(database_url=database_url, environment="test")
    async with open_runtime(settings, durable=False) as built:
        yield built


@pytest.fixture(scope="module", params=DATABASES)
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running service for a whole module; tests keep apart by having tenants of their own."""
    new: NewDatabase = request.getfixturevalue("new_sqlite" if request.param == "sqlite" else "new_postgres")
    with running(new(), tmp_path_factory.mktemp("service")) as started:
        yield started


@pytest.fixture
def model_provider() -> Iterator[Provider]:
    with provider() as stub:
        yield stub


class OpenWithProvider(Protocol):
    def __call__(self, stub: Provider, **settings: object) -> AbstractAsyncContextManager[Runtime]: ...


@pytest.fixture
def with_provider(new_sqlite: NewDatabase) -> OpenWithProvider:
    """The parts of the service with a provider on a socket in place of the offline model."""

    def opened(stub: Provider, **changes: object) -> AbstractAsyncContextManager[Runtime]:
        settings: Settings = load_settings(
            database_url=new_sqlite(),
            environment="test",
            model_provider="openai",
            model_api_key="sk-test-only",
            model_base_url=stub.url,
            **changes,
        )
        return open_runtime(settings, durable=False)

    return opened
