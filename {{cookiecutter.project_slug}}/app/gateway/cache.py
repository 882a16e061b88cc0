"""Answers given again: to the same tenant, for exactly the same request to the same model, at no cost.

Only where the caller asked for it: by a temperature of 0 with a seed, or by a Cache-Control header. A temperature that
is absent asks for nothing. Nothing that offered or used a tool is kept. What is past its time still serves when no
model answers, to who asked likewise, and says so. Embeddings are asked for so by nature: `gateway/embeddings`.
Gate: errors, cost.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import undefer

from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS, TenantScope
from app.errors import StoreAway
from app.gateway.catalog import CacheRules
from app.gateway.models import CachedAnswer

log = structlog.get_logger(__name__)
Body = dict[str, Any]
MOST_BYTES = 100_000  # of an answer that is kept
ANY_AGE = timedelta(days=36_500)


@dataclass(frozen=True)
class CachePolicy:
    """Which kept answers a caller accepts: the directives of a request (RFC 9111, 5.2.1; stale-if-error: RFC 5861)."""

    requested: bool = False  # it asks for kept answers in so many words
    may_serve: bool = True  # unless no-cache, no-store or max-age=0
    may_store: bool = True  # unless no-store
    max_age: timedelta | None = None
    min_fresh: timedelta = timedelta(0)
    max_stale: timedelta = timedelta(0)
    stale_if_error: timedelta | None = None

    def accepts(self, kept: "Kept", *, failing: bool) -> bool:
        """Whether an answer of this age will do, now or where no model answers (`failing`)."""
        stale_for = kept.age - kept.lifetime
        if failing:
            return self._accepts_on_error(kept.age, stale_for)
        if self.max_age is not None and kept.age > self.max_age + self.max_stale:
            return False
        return self.min_fresh - self.max_stale <= -stale_for

    def _accepts_on_error(self, age: timedelta, stale_for: timedelta) -> bool:
        if self.stale_if_error is not None:
            beyond = age - self.max_age if self.max_age is not None else stale_for
            return max(beyond, stale_for) <= self.stale_if_error
        # Who named an age gets none that is older, whatever fails; who named none, whatever is kept.
        return self.max_age is None or age <= self.max_age + self.max_stale


@dataclass(frozen=True)
class Kept:
    body: Body
    at: datetime
    lifetime: timedelta  # for which it was fresh

    @property
    def age(self) -> timedelta:
        return utc_now() - self.at


@dataclass(frozen=True)
class Cache:
    db: Database
    rules: CacheRules

    def key(self, scope: TenantScope, model: str, sent: Mapping[str, Any], policy: CachePolicy = CachePolicy()) -> str:
        """What an answer is found by, empty for one that is not kept. `sent`: what the provider gets but its model."""
        if not self.rules.ttl_s or not _cacheable(sent) or not (policy.requested or _repeatable(sent)):
            return ""
        said = json.dumps([scope.tenant_id, model, sent], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    async def find(
        self, scope: TenantScope, key: str, policy: CachePolicy = CachePolicy(), *, stale: bool = False
    ) -> Kept | None:
        """The answer kept under a key, if the caller accepts it; `stale`: no model answers, so an older one will do."""
        if not key or not policy.may_serve:
            return None
        query = select(CachedAnswer).options(undefer(CachedAnswer.body)).where(CachedAnswer.key == key)
        async with self.db.read(scope) as session:
            found = await session.scalar(query)
        if found is None or found.gone_at <= utc_now():
            return None
        kept = Kept(found.body, found.kept_at, found.fresh_until - found.kept_at)
        return kept if policy.accepts(kept, failing=stale) else None

    async def keep(self, scope: TenantScope, key: str, model: str, answer: Body) -> None:
        """Keep a whole answer that ended by itself."""
        finished = [choice.get("finish_reason") for choice in answer.get("choices") or ()]
        if not key or finished != ["stop"] or len(json.dumps(answer)) > MOST_BYTES:
            return
        now = utc_now()
        fresh, gone = (now + timedelta(seconds=seconds) for seconds in (self.rules.ttl_s, self.rules.stale_s))
        row = CachedAnswer(
            key=key, tenant_id=scope.tenant_id, model=model, body=answer, kept_at=now, fresh_until=fresh,
            gone_at=max(fresh, gone),
        )  # fmt: skip
        try:
            async with self.db.transaction(scope) as session:
                await session.merge(row)
        except (IntegrityError, StoreAway) as error:  # two at once, or none at all: the answer is there and paid for
            log.info("cache.not_kept", reason=type(error).__name__)

    async def purge(self) -> int:
        """Delete what is past all use; returns how much that was."""
        async with self.db.transaction(ALL_TENANTS) as session:
            gone = await session.scalars(
                delete(CachedAnswer).where(CachedAnswer.gone_at <= utc_now()).returning(CachedAnswer.key)
            )
            return len(list(gone))


def _cacheable(sent: Mapping[str, Any]) -> bool:
    if sent.get("tools") or sent.get("n", 1) != 1:
        return False
    return not any(message["role"] == "tool" or message.get("tool_calls") for message in sent["messages"])


def _repeatable(sent: Mapping[str, Any]) -> bool:
    """Whether its parameters ask for the same answer each time; a provider's defaults do not."""
    return sent.get("temperature") == 0 and sent.get("seed") is not None
