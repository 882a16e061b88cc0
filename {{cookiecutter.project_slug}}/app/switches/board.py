"""Kill switches: durable, shared by every process, read afresh before each model and tool call.

Names: `runs`, `feature:<name>`, `tool:<name>`, `effect:<effect>`, `model:<name>`, `tenant:<id>`.
A store that cannot be read raises, so nothing starts: a switch fails closed. Gate: monitoring.
"""

import re
from dataclasses import dataclass

from sqlalchemy import select

from app.audit import trail
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.errors import RequestInvalid, ServiceHalted
from app.switches.models import Switch

NAME = re.compile(
    r"runs|(feature|tool):[a-z][a-z0-9_]{0,79}|effect:(read|write|delete|external_post)"
    r"|model:[A-Za-z0-9][A-Za-z0-9._:/@-]{0,100}|tenant:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


@dataclass(frozen=True)
class Board:
    db: Database

    async def require_clear(self, *names: str) -> None:
        """Raise ServiceHalted, naming the first of these switches that is on."""
        async with self.db.transaction(ALL_TENANTS) as session:
            thrown = set(await session.scalars(select(Switch.name).where(Switch.name.in_(names))))
        for name in names:
            if name in thrown:
                raise ServiceHalted(name)

    async def thrown(self) -> list[Switch]:
        async with self.db.transaction(ALL_TENANTS) as session:
            return list(await session.scalars(select(Switch).order_by(Switch.name)))

    async def throw(self, name: str, reason: str, actor: str) -> None:
        _require_name(name)
        async with self.db.transaction(ALL_TENANTS) as session:
            await session.merge(Switch(name=name, reason=reason, thrown_by=actor, thrown_at=utc_now()))
            await trail.append(session, trail.PLATFORM, actor, "switch.on", f"switch:{name}", reason=reason)

    async def release(self, name: str, reason: str, actor: str) -> None:
        _require_name(name)
        async with self.db.transaction(ALL_TENANTS) as session:
            switch = await session.get(Switch, name)
            if switch is None:
                return
            await session.delete(switch)
            await trail.append(session, trail.PLATFORM, actor, "switch.off", f"switch:{name}", reason=reason)


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise RequestInvalid(
            "Unknown switch: use runs, feature:NAME, tool:NAME, effect:read|write|delete|external_post, "
            "model:NAME or tenant:ID"
        )
