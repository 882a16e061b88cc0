"""Worlds for proofs: one shared by a process, fresh ones for what breaks or reconfigures its service."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.pace import REQUEST_SECONDS
from gates.rig.world import World, opened

pytest_plugins = ["gates.rig.fixtures"]
NewWorld = Callable[..., AbstractContextManager[World]]
REMOTE_KEY = "GATES_KEY"


@pytest.fixture(scope="session")
def new_world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> NewWorld:
    """A world of its own for a proof that breaks things: `with new_world(MODEL_TIMEOUT_MS="500") as world`."""

    def make(database_url: str = "", **settings: Any) -> AbstractContextManager[World]:
        return opened(database_url or new_sqlite(), tmp_path_factory.mktemp("world"), **settings)

    return make


@pytest.fixture(scope="session")
def world(new_world: NewWorld) -> Iterator[World]:
    """The world most proofs share; they keep apart by having tenants of their own."""
    with new_world() as made:
        yield made


@dataclass(frozen=True)
class Target:
    """What can be asked with HTTP and one key alone: the world's service, or a deployed one."""

    base_url: str
    key: str = field(repr=False)

    def call(self, method: str, path: str, *, key: str | None = None, **options: Any) -> httpx2.Response:
        """With the target's key, with another one, or with none at all (`key=""`)."""
        headers = dict(options.pop("headers", {}))
        token = self.key if key is None else key
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return httpx2.request(method, self.base_url + path, headers=headers, timeout=REQUEST_SECONDS, **options)


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> Target:
    url: str = request.config.getoption("--remote").rstrip("/")
    if url:
        return Target(url, os.environ[REMOTE_KEY])
    here: World = request.getfixturevalue("world")
    [member] = here.people(["probe_reader"])
    return Target(here.service.base_url, member.key)
