"""A run whose segment the engine gave up, and a run that ends with a question open."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from app.bootstrap import open_runtime
from app.db.base import new_id, utc_now
from app.db.tenancy import ALL_TENANTS
from app.errors import ApprovalExpired
from app.runs.housekeeping import Housekeeping
from app.runs.intake import RunRequest
from app.runs.models import Run
from app.runtime import Runtime
from app.settings import load_settings
from app.tools.models import Approval
from gates.rig import people

pytestmark = pytest.mark.anyio
PATIENCE = timedelta(seconds=30)


async def _started(runtime: Runtime, state: str) -> tuple[people.Person, Run]:
    member = await people.person(runtime, await people.tenant(runtime), ["member"])
    run, _ = await runtime.intake.start(member.principal, RunRequest("assistant", "Look.", ()), new_id())
    async with runtime.db.transaction(ALL_TENANTS) as session:
        old = utc_now() - 2 * PATIENCE
        await session.execute(update(Run).where(Run.id == run.id).values(state=state, updated_at=old))
    return member, run


@pytest.mark.parametrize("state", ["queued", "running"])
async def test_a_run_the_engine_lost_ends_as_failed(database_url: str, state: str) -> None:
    settings = load_settings(database_url=database_url, environment="test")
    async with open_runtime(settings, durable=False) as without_engine, open_runtime(settings) as runtime:
        member, run = await _started(without_engine, state)
        await runtime.housekeeping.once()
        found = await runtime.intake.get(member.principal, run.id)
    assert (found.state, found.error_code) == ("failed", "run.dead_lettered")


async def test_a_run_that_waits_in_the_queue_is_left_alone(database_url: str) -> None:
    async with open_runtime(load_settings(database_url=database_url, environment="test")) as runtime:
        member, run = await _started(runtime, "queued")
        await runtime.housekeeping.once()
        assert (await runtime.intake.get(member.principal, run.id)).state == "queued"


async def test_a_question_ends_with_its_run(runtime: Runtime) -> None:
    member, run = await _started(runtime, "running")
    approver = await people.person(runtime, member.tenant_id, ["approver"])
    async with runtime.db.transaction(member.principal) as session:
        question = Approval(
            id=new_id(), tenant_id=member.tenant_id, run_id=run.id, call_id="c1", tool="t", effect="write",
            arguments={}, digest="0" * 64, reason="r", requested_by=member.member_id, issuer_chain=[], state="pending",
            created_at=utc_now(), expires_at=utc_now() + PATIENCE,
        )  # fmt: skip
        session.add(question)
    await runtime.segments.store.fail(run.id, 1, "internal.unexpected", "test")
    with pytest.raises(ApprovalExpired):
        await runtime.approvals.decide(
            approver.principal, question.id, approve=True, digest=question.digest, reason="too late"
        )
    async with runtime.db.transaction(member.principal) as session:
        assert await session.scalar(select(Approval.state)) == "expired"


def test_housekeeping_waits_before_it_asks() -> None:
    assert Housekeeping.patience == PATIENCE
