"""Runs as they are stored, for tests that need no agent to have worked on them."""

from typing import Any

from app.db.base import new_id, utc_now
from app.identity.principal import Principal
from app.runs.intake import RunRequest
from app.runs.models import Run, RunContent
from app.runtime import Runtime


async def stored_run(runtime: Runtime, caller: Principal, request: RunRequest, **changes: Any) -> str:
    """A queued run of the caller's that this request has started; `changes` are other values of its columns."""
    now, run_id = utc_now(), new_id()
    values = {
        "member_id": caller.member_id, "feature": request.feature, "idempotency_key": new_id(),
        "request_digest": request.digest, "key_id": caller.key_id, "granted": sorted(caller.permissions),
        "state": "queued", "model": "m", "prompt_version": "p", "created_at": now, "updated_at": now,
    }  # fmt: skip
    run = Run(id=run_id, tenant_id=caller.tenant_id, **{**values, **changes})
    content = RunContent(
        run_id=run_id, tenant_id=caller.tenant_id, task=request.task, documents=list(request.documents)
    )
    async with runtime.db.transaction(caller) as session:
        session.add_all([run, content])
    return run_id
