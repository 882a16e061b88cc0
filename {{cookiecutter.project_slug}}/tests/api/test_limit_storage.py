"""Rate limits that count across processes: which storages there are, and what happens without one that answers."""

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from app.api.limit_storage import LimitStorage
from app.api.limits import RateLimits, Table
from app.config_files import SettingsInvalid
from app.entrypoints import web
from app.errors import RateLimited
from app.settings import ROOT, Settings, load_settings
from gates.rig import valkey

pytestmark = pytest.mark.anyio
TABLE = Table(costly="3/hour")


PATIENT_MS = 20_000  # for a machine that is busy with other things


def _settings(url: str, timeout_ms: int = PATIENT_MS) -> Settings:
    return load_settings(environment="test", rate_limit_storage_url=url, rate_limit_storage_timeout_ms=timeout_ms)


def _limits(url: str) -> RateLimits:
    return RateLimits(TABLE, LimitStorage.of(_settings(url)))


async def _counted(limits: RateLimits, who: str, times: int) -> int:
    """How many of these were let through."""
    passed = 0
    for _ in range(times):
        try:
            await limits.count("costly", who)
        except RateLimited:
            continue
        passed += 1
    await limits.close()  # it connects again with the next question
    return passed


@pytest.fixture(scope="module")
def store() -> Iterator[valkey.Server]:
    with valkey.server() as started:
        yield started


async def test_two_that_share_a_storage_have_one_limit(store: valkey.Server) -> None:
    first, second = _limits(store.url), _limits(store.url)
    assert first.are_shared
    assert await _counted(first, "shared", 2) == 2
    assert await _counted(second, "shared", 5) == 1
    assert await _counted(first, "shared", 1) == 0


def _in_a_process(url: str) -> int:
    """How many of two a process of its own lets through."""
    code = (
        "import asyncio, sys; from tests.api.test_limit_storage import _counted, _limits;"
        "print(asyncio.run(_counted(_limits(sys.argv[1]), 'across', 2)))"
    )
    command = [sys.executable, "-c", code, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True, cwd=ROOT)
    return int(done.stdout)


def test_one_process_after_another_finds_the_limit_used_up(store: valkey.Server) -> None:
    assert [_in_a_process(store.url) for _ in range(3)] == [2, 1, 0]


async def test_two_without_one_have_a_limit_each() -> None:
    first, second = _limits(""), _limits("")
    assert not first.are_shared
    assert (await _counted(first, "x", 5), await _counted(second, "x", 5)) == (3, 3)


async def test_a_storage_that_hangs_or_is_gone_locks_nobody_out_and_is_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as silent:  # accepts, and never says a word
        for port in (silent.getsockname()[1], 1):
            storage = LimitStorage.of(_settings(f"valkey://127.0.0.1:{port}", timeout_ms=100))
            limits = RateLimits(TABLE, storage)
            assert not await storage.reachable()
            await storage.close()
            assert await _counted(limits, "x", 5) == 3
            assert storage._rests_until > 0  # asked once, and left alone: neither was any of the five slow


@pytest.mark.parametrize(("scheme", "package"), [("redis", "redis"), ("rediss", "redis"), ("memcached", "memcachio")])
def test_a_client_that_is_not_installed_is_named_with_what_to_do(scheme: str, package: str) -> None:
    with pytest.raises(
        SettingsInvalid, match=f"the client for {scheme}:// is not installed; add it: uv add {package}$"
    ):
        LimitStorage.of(_settings(f"{scheme}://localhost:6379"))


@pytest.mark.parametrize("url", ["mysql://x", "memory://", "localhost:6379", "async+redis://x", "/run/socket"])
def test_another_scheme_is_refused_by_the_settings(url: str) -> None:
    with pytest.raises(SettingsInvalid, match="RATE_LIMIT_STORAGE_URL: must start with one of redis://, "):
        _settings(url)


def test_the_password_in_its_url_is_a_secret() -> None:
    assert "s3cret word" in _settings("valkey://:s3cret%20word@localhost:6379").secrets


@pytest.mark.parametrize(("environment", "told"), [("production", 1), ("staging", 1), ("development", 0)])
def test_in_production_it_is_said_once_that_each_process_counts_for_itself(
    environment: str, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(web.log, "warning", lambda event, **_: said.append(event), raising=False)
    settings = load_settings(environment="test").model_copy(update={"environment": environment})
    web.create_app(settings)
    assert said == ["limits.per_process"] * told
