"""The service's side of the replay: its real parts on a scratch database, a user and an approver."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.audit import trail
from app.audit.trail import ChainReport
from app.bootstrap import open_runtime
from app.db.base import new_id
from app.entrypoints import schema
from app.identity.directory import Directory
from app.identity.principal import Principal
from app.identity.roles import Roles
from app.policy.rules import Policy
from app.runs.intake import RunRequest
from app.runtime import Runtime
from app.settings import load_settings
from app.tools.caller import CallerOfRun
from app.tools.egress import Egress
from app.tools.guard import Guard
from app.tools.spec import ToolSpec

PERMISSION = "redteam:use"  # of every AgentDojo tool; each role has it here, so that only policy can refuse
ACTOR = "redteam"


@dataclass(frozen=True)
class Scene:
    runtime: Runtime
    directory: Directory
    user: Principal
    approver: Principal

    def guard(self, tools: Mapping[str, ToolSpec], policy: Policy) -> Guard:
        runtime = self.runtime
        return Guard(
            db=runtime.db,
            directory=self.directory,
            board=runtime.board,
            policy=policy,
            egress=Egress(()),
            tools=tools,
            approval_ttl=runtime.settings.approval_ttl,
        )

    async def start_run(self, task: str, tools: frozenset[str]) -> CallerOfRun:
        """Accept a run without documents, as the API would: what taints it is what its tools return."""
        feature = next(iter(self.runtime.features), None)
        if feature is None:
            raise LookupError("this service has no feature yet whose run the replay could be")
        run, _ = await self.runtime.intake.start(self.user, RunRequest(feature, task, ()), new_id())
        return CallerOfRun(
            run_id=run.id,
            tenant_id=run.tenant_id,
            member_id=run.member_id,
            feature=run.feature,
            granted=frozenset(run.granted),
            key_id=run.key_id,
            reads_documents=False,
            tools=tools,
            issuer_chain=run.issuer_chain,
        )

    async def decide(self, approval_id: str, tool: str, arguments: Mapping[str, Any] | None) -> bool:
        """Approve exactly this call, as the question shows it, and nothing else; without arguments nothing."""
        [question] = await self.runtime.approvals.page(self.approver, state="pending", before=None, limit=1)
        same = arguments is not None and question.tool == tool and question.arguments == arguments
        yes = same and question.id == approval_id
        await self.runtime.approvals.decide(
            self.approver, approval_id, approve=yes, digest=question.digest, reason="red-team replay"
        )
        return yes

    async def audit(self) -> ChainReport:
        return await trail.verify(self.runtime.db, self.user, self.user.tenant_id)


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncGenerator[Scene]:
    """The runtime that evaluations use, on a scratch database in the folder, with one tenant."""
    settings = load_settings(
        database_url=f"sqlite:///{folder / 'redteam.db'}", environment="test", model_provider="offline"
    )
    schema.migrate(settings)
    async with open_runtime(settings, durable=False) as runtime:
        roles = runtime.directory.roles
        table = {name: roles.permissions([name]) | {PERMISSION} for name in roles.names}
        directory = replace(runtime.directory, roles=Roles(table))
        tenant = await runtime.members.create_tenant("redteam", ACTOR)
        # Every role at once: a rule of config/policy.toml that favours one of them is played with.
        user = await _member(runtime, directory, tenant, "user", roles.names)
        yield Scene(runtime, directory, user, await _member(runtime, directory, tenant, "approver", roles.names))


async def _member(runtime: Runtime, directory: Directory, tenant: str, name: str, roles: list[str]) -> Principal:
    member = await runtime.members.add(tenant, name, roles, ACTOR)
    key = await runtime.keys.issue(tenant, member, ACTOR)
    return await directory.authenticate(key.token)
