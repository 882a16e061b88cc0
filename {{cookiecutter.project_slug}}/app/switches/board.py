"""Kill switches: durable, shared by every process, read afresh before each model and tool call and during it.

Names: `runs`, `egress` (whatever reaches out of the service but models), `read_only` (every tool that does not only
read), `feature:<name>`, `tool:<name>`, `effect:<effect>`, `model:<name>`, `tenant:<id>`.
A store that cannot be read raises, so nothing starts: a switch fails closed. Gate: deployment, monitoring.
"""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import sqlalchemy as sa
import structlog
from sqlalchemy import select

from app.audit import trail
from app.background import start_detached
from app.db.base import utc_now
from app.db.engine import Database
from app.db.tenancy import ALL_TENANTS
from app.db.unique import insert_or_existing
from app.errors import RequestInvalid, ServiceHalted, StoreAway
from app.switches.models import Switch

log = structlog.get_logger(__name__)
_ON = sa.select(Switch.name).where(Switch.name.in_(sa.bindparam("names", expanding=True)))
LOOK_EVERY = timedelta(seconds=1)  # while something is under way
NAME = re.compile(
    r"runs|egress|read_only|(feature|tool):[a-z][a-z0-9_]{0,79}|effect:(read|write|delete|external_post)"
    r"|model:[A-Za-z0-9][A-Za-z0-9._:/@-]{0,100}|tenant:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
)


@dataclass(eq=False)
class Watch:
    """Something under way, and the switch that has stopped it, if one has."""

    names: tuple[str, ...]
    scope: anyio.CancelScope
    thrown: str = ""


@dataclass(frozen=True)
class Board:
    db: Database
    _watches: set[Watch] = field(default_factory=set)
    _looking: list[asyncio.Task[None]] = field(default_factory=list)  # one, while there is anything to watch

    async def require_clear(self, *names: str) -> None:
        """Raise ServiceHalted, naming the first of these switches that is on."""
        if name := _first(names, await self._on(names)):
            raise ServiceHalted(name)

    @contextmanager
    def obeyed(self, *names: str) -> Iterator[Watch]:
        """Stop what is in the block, as ServiceHalted, soon after one of these switches is thrown by any process.

        One question a second for all that is under way in this process."""
        with anyio.CancelScope() as scope:
            watch = Watch(names, scope)
            self._watches.add(watch)
            if not self._looking:
                self._looking.append(start_detached(self._look(), name="switches"))
            try:
                yield watch
            finally:
                self._watches.discard(watch)
        if scope.cancelled_caught:
            raise ServiceHalted(watch.thrown)

    async def _look(self) -> None:
        try:
            while self._watches:
                await asyncio.sleep(LOOK_EVERY.total_seconds())
                names = tuple({name for watch in self._watches for name in watch.names})
                try:
                    thrown = await self._on(names) if names else set()
                except StoreAway:  # no reason to stop by itself: what needs the store fails, or waits for it
                    log.warning("switches.look_failed")
                    continue
                except Exception:
                    log.exception("switches.look_failed")
                    continue
                for watch in self._watches:
                    if name := _first(watch.names, thrown):
                        watch.thrown = name
                        watch.scope.cancel()
        finally:
            self._looking.clear()

    async def _on(self, names: tuple[str, ...]) -> set[str]:
        return await self.db.look(_thrown, names)

    async def thrown(self) -> list[Switch]:
        async with self.db.read(ALL_TENANTS) as session:
            return list(await session.scalars(select(Switch).order_by(Switch.name)))

    async def throw(self, name: str, reason: str, actor: str) -> None:
        _require_name(name)
        async with self.db.transaction(ALL_TENANTS) as session:
            thrown = Switch(name=name, reason=reason, thrown_by=actor, thrown_at=utc_now())
            named = select(Switch).where(Switch.name == name).with_for_update()
            switch, inserted = await insert_or_existing(session, thrown, named)
            if not inserted:
                switch.reason, switch.thrown_by, switch.thrown_at = reason, actor, utc_now()
            await trail.append(session, trail.PLATFORM, actor, "switch.on", f"switch:{name}", reason=reason)

    async def release(self, name: str, reason: str, actor: str) -> None:
        _require_name(name)
        async with self.db.transaction(ALL_TENANTS) as session:
            switch = await session.get(Switch, name, with_for_update=True)
            if switch is None:
                return
            await session.delete(switch)
            await trail.append(session, trail.PLATFORM, actor, "switch.off", f"switch:{name}", reason=reason)


def _thrown(connection: sa.Connection, asked: Sequence[tuple[str, ...]]) -> list[set[str]]:
    """Which of each one's switches are on."""
    on = set(connection.scalars(_ON, {"names": list({name for each in asked for name in each})}))
    return [on.intersection(each) for each in asked]


def _first(names: tuple[str, ...], thrown: set[str]) -> str:
    return next((name for name in names if name in thrown), "")


def _require_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise RequestInvalid(
            "Unknown switch: use runs, egress, read_only, feature:NAME, tool:NAME, "
            "effect:read|write|delete|external_post, "
            "model:NAME or tenant:ID"
        )
