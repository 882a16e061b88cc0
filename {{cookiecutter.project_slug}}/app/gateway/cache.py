"""Answers given again: to the same tenant, for exactly the same request to the same model, at no cost.

Nothing that offered or used a tool is kept, and nothing where the caller asked for variety. What is past its time still
serves when no model answers, and says so. Gate: errors, cost.
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


@dataclass(frozen=True)
class Kept:
    body: Body
    at: datetime

    @property
    def age(self) -> timedelta:
        return utc_now() - self.at


@dataclass(frozen=True)
class Cache:
    db: Database
    rules: CacheRules

    def key(self, scope: TenantScope, model: str, sent: Mapping[str, Any]) -> str:
        """What an answer is found by, empty for one that is not kept. `sent`: what the provider gets but its model."""
        if not self.rules.ttl_s or not _repeatable(sent):
            return ""
        said = json.dumps([scope.tenant_id, model, sent], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    async def find(self, scope: TenantScope, key: str, *, stale: bool = False) -> Kept | None:
        """The answer kept under a key; `stale`: also one past its time."""
        if not key:
            return None
        async with self.db.read(scope) as session:
            kept = select(CachedAnswer).options(undefer(CachedAnswer.body)).where(CachedAnswer.key == key)
            found = await session.scalar(kept)
        if found is None or (found.gone_at if stale else found.fresh_until) <= utc_now():
            return None
        return Kept(found.body, found.kept_at)

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


def _repeatable(sent: Mapping[str, Any]) -> bool:
    if sent.get("tools") or sent.get("n", 1) != 1:
        return False
    if any(message["role"] == "tool" or message.get("tool_calls") for message in sent["messages"]):
        return False
    return sent.get("temperature") in {None, 0}  # more asks for another answer each time
