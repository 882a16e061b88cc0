"""Answers that are kept: for whom, for what, and how long."""

from datetime import timedelta
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from app.budgets.caps import Payer
from app.db.tenancy import ALL_TENANTS
from app.gateway.cache import Cache, CachePolicy
from app.gateway.catalog import CacheRules
from app.gateway.models import CachedAnswer
from app.runtime import Runtime

pytestmark = pytest.mark.anyio
MINE, THEIRS = Payer("t-1", "m-1"), Payer("t-2", "m-2")
SENT: dict[str, Any] = {
    "messages": [{"role": "user", "content": "How are you?"}],
    "max_completion_tokens": 900,
    "temperature": 0.0,
    "seed": 7,
}
ANSWER: dict[str, Any] = {"choices": [{"index": 0, "message": {"content": "Well."}, "finish_reason": "stop"}]}


@pytest.fixture
async def cache(runtime: Runtime) -> Cache:
    return Cache(runtime.db, CacheRules(ttl_s=60, stale_s=600))


@pytest.mark.parametrize(
    "change",
    [
        {"tools": [{}]}, {"n": 2}, {"temperature": 0.1}, {"temperature": None}, {"seed": None},
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
    ],
)  # fmt: skip
async def test_what_is_never_kept_has_no_key(cache: Cache, change: dict[str, Any]) -> None:
    assert cache.key(MINE, "a", {**SENT, **change}) == ""
    assert await cache.find(MINE, "") is None


async def test_a_header_asks_in_place_of_a_seed_and_not_in_place_of_no_tools(cache: Cache) -> None:
    silent = {**SENT, "temperature": None, "seed": None}
    asked = CachePolicy(requested=True, max_age=timedelta(seconds=60))
    assert cache.key(MINE, "a", silent) == ""
    assert cache.key(MINE, "a", silent, asked) != ""
    assert cache.key(MINE, "a", {**silent, "tools": [{}]}, asked) == ""


async def test_a_key_differs_with_whatever_was_asked(cache: Cache) -> None:
    others = [
        (THEIRS, "a", SENT),
        (MINE, "b", SENT),
        (MINE, "a", {**SENT, "seed": 1}),
        (MINE, "a", {**SENT, "stop": "x"}),
    ]
    keys = {cache.key(*each) for each in [(MINE, "a", SENT), *others]}
    assert len(keys) == len(others) + 1
    assert cache.key(MINE, "a", dict(reversed(SENT.items()))) == cache.key(MINE, "a", SENT)


async def test_it_is_found_in_its_time_by_its_tenant(cache: Cache, runtime: Runtime) -> None:
    key = cache.key(MINE, "a", SENT)
    assert await cache.find(MINE, key) is None
    await cache.keep(MINE, key, "a", ANSWER)
    kept = await cache.find(MINE, key)
    assert kept is not None
    assert kept.body == ANSWER
    assert kept.age < timedelta(seconds=30)
    assert await cache.find(THEIRS, key) is None
    await _older(runtime, timedelta(seconds=61))
    assert await cache.find(MINE, key) is None
    assert await cache.find(MINE, key, stale=True) is not None
    assert await cache.purge() == 0
    await _older(runtime, timedelta(seconds=540))
    assert await cache.find(MINE, key, stale=True) is None
    assert await cache.purge() == 1


async def _older(runtime: Runtime, by: timedelta) -> None:
    async with runtime.db.transaction(ALL_TENANTS) as session:
        row = (await session.scalars(sa.select(CachedAnswer))).one()
        row.kept_at, row.fresh_until, row.gone_at = (each - by for each in (row.kept_at, row.fresh_until, row.gone_at))


async def test_many_at_once_keep_one(cache: Cache, runtime: Runtime) -> None:
    key = cache.key(MINE, "a", SENT)
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(cache.keep, MINE, key, "a", ANSWER)
    async with runtime.db.transaction(ALL_TENANTS) as session:
        assert await session.scalar(sa.select(sa.func.count()).select_from(CachedAnswer)) == 1


@pytest.mark.parametrize("finish", ["length", "content_filter", None])
async def test_an_answer_that_did_not_end_by_itself_is_not_kept(cache: Cache, finish: str | None) -> None:
    key = cache.key(MINE, "a", SENT)
    await cache.keep(MINE, key, "a", {"choices": [{**ANSWER["choices"][0], "finish_reason": finish}]})
    assert await cache.find(MINE, key) is None


async def test_nothing_is_kept_where_the_rules_say_so(runtime: Runtime) -> None:
    assert Cache(runtime.db, CacheRules(ttl_s=0)).key(MINE, "a", SENT) == ""
