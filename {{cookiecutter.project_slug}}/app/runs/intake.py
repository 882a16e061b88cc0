"""Starting runs and reading them back. Gate: validation, cost."""

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import rfc8785
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit import trail
from app.budgets.caps import Payer
from app.budgets.ledger import Ledger
from app.budgets.models import BudgetCap
from app.budgets.money import from_micro
from app.db.base import new_id, utc_now
from app.db.engine import Database
from app.errors import IdempotencyKeyReused, NotFound, RequestInvalid
from app.identity.principal import Principal
from app.runs.agents import Agents
from app.runs.engine import RunQueue
from app.runs.limits import RunLimits
from app.runs.models import Run, RunContent
from app.switches.board import Board


@dataclass(frozen=True)
class RunRequest:
    feature: str
    task: str
    documents: tuple[dict[str, str], ...]  # name and text; of a file that is not read yet, name and digest
    limits: dict[str, int] | None = None  # narrower than the service's: model_calls, tool_calls, duration_s, cost_micro
    read: Callable[[], Awaitable[tuple[dict[str, str], ...]]] | None = None  # the documents, once all else is settled

    @property
    def digest(self) -> str:
        body: dict[str, Any] = {"feature": self.feature, "task": self.task, "documents": list(self.documents)}
        if self.limits:
            body["limits"] = self.limits
        return hashlib.sha256(rfc8785.dumps(body)).hexdigest()


@dataclass(frozen=True)
class Intake:
    db: Database
    ledger: Ledger
    board: Board
    agents: Agents
    queue: RunQueue
    limits: RunLimits

    async def start(self, caller: Principal, request: RunRequest, idempotency_key: str) -> tuple[Run, bool]:
        """Accept a run; returns (run, replayed). The same key and request always give the same run.

        Files are read last: a replay, a switch or a budget answers without. Raises BudgetExceeded and ServiceHalted
        before anything is read or stored, IdempotencyKeyReused when the key came with another request."""
        if (earlier := await self._earlier(caller, idempotency_key)) is not None:
            return _replay(earlier, request), True
        spec = self.agents.specs.get(request.feature)
        if spec is None:
            raise RequestInvalid(pointers=[("/feature", f"choose from {', '.join(sorted(self.agents.specs))}")])
        self._require_narrower(request.limits or {})
        run_id = new_id()
        await self.board.require_clear("runs", f"tenant:{caller.tenant_id}", f"feature:{request.feature}")
        await self.ledger.require_headroom(Payer(caller.tenant_id, caller.member_id, run_id))
        documents = await request.read() if request.read is not None else request.documents
        now = utc_now()
        run = Run(
            id=run_id, tenant_id=caller.tenant_id, member_id=caller.member_id, feature=request.feature,
            idempotency_key=idempotency_key, request_digest=request.digest, limits=request.limits,
            granted=sorted(caller.permissions), key_id=caller.key_id, issuer_chain=caller.issuer_chain, state="queued",
            model=self.agents.model_names[request.feature], prompt_version=spec.prompt_version,
            created_at=now, updated_at=now,
        )  # fmt: skip
        content = RunContent(run_id=run_id, tenant_id=caller.tenant_id, task=request.task, documents=list(documents))
        try:
            async with self.db.transaction(caller) as session:
                session.add_all([run, content])
                if (cost := (request.limits or {}).get("cost_micro")) is not None:
                    session.add(BudgetCap(scope="run", scope_id=run.id, tenant_limit_micro=cost))
                await session.flush()
                await self.queue.enqueue(session, run.id, 1)
                await self._record(session, caller, run, len(documents))
        except IntegrityError:  # the same key arrived twice at once; the other request won
            if (earlier := await self._earlier(caller, idempotency_key)) is None:
                raise
            return _replay(earlier, request), True
        return run, False

    def _require_narrower(self, asked: Mapping[str, int]) -> None:
        """Raise RequestInvalid for a limit above the service's own: only its operators may raise those."""
        most = self.limits.most
        wider = [name for name, value in asked.items() if value > most[name]]
        told = {
            name: ("/limits/cost_usd", f"at most {from_micro(most[name])}")
            if name == "cost_micro"
            else (f"/limits/{name}", f"at most {most[name]}")
            for name in wider
        }
        if told:
            raise RequestInvalid(pointers=list(told.values()))

    async def _record(self, session: AsyncSession, caller: Principal, run: Run, documents: int) -> None:
        facts = {"feature": run.feature, "documents": documents, "prompt": run.prompt_version}
        await trail.append(session, caller.tenant_id, caller.member_id, "run.started", f"run:{run.id}", **facts)

    async def _earlier(self, caller: Principal, key: str) -> Run | None:
        query = select(Run).where(Run.member_id == caller.member_id, Run.idempotency_key == key)
        async with self.db.read(caller) as session:
            return await session.scalar(query)

    async def get(self, caller: Principal, run_id: str) -> Run:
        """Raises NotFound for a missing run and for another tenant's alike."""
        async with self.db.read(caller) as session:
            run = await session.scalar(select(Run).where(Run.id == run_id))
        if run is None:
            raise NotFound
        return run

    async def page(self, caller: Principal, *, before: str | None, limit: int) -> Sequence[Run]:
        """Newest first; `before` is the id of the last run of the page before."""
        query = select(Run).order_by(Run.id.desc()).limit(limit)
        if before:
            query = query.where(Run.id < before)
        async with self.db.read(caller) as session:
            return list(await session.scalars(query))

    async def tasks(self, caller: Principal, run_ids: Collection[str]) -> dict[str, str]:
        """What was asked for, by run; left out: another tenant's run, and one whose content was deleted."""
        query = select(RunContent.run_id, RunContent.task).where(RunContent.run_id.in_(run_ids))
        async with self.db.read(caller) as session:
            return {row.run_id: row.task for row in await session.execute(query)}


def _replay(earlier: Run, request: RunRequest) -> Run:
    if earlier.request_digest != request.digest:
        raise IdempotencyKeyReused
    return earlier
