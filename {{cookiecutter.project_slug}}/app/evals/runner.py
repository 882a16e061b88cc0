"""Runs a feature's evaluation set through the real agent, guard, policy and ledger on a scratch database."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic_evals import Dataset
from sqlalchemy import select

from app.db.base import new_id
from app.errors import RequestInvalid
from app.evals.cases import CaseTags, EvalResult, EvalTask, Expected
from app.evals.evaluators import EVALUATORS
from app.evals.verdict import CaseScore, Score, Thresholds, scores
from app.identity.principal import Principal
from app.manifest import Feature
from app.runs.intake import RunRequest
from app.runtime import Runtime
from app.tools.models import Approval, ToolCall

EvalDataset = Dataset[EvalTask, Expected, CaseTags]


@dataclass(frozen=True)
class EvalReport:
    feature: str
    dataset_version: str
    dataset_hash: str
    prompt_version: str
    model: str
    policy_version: str
    cases: tuple[CaseScore, ...]
    scores: tuple[Score, ...]
    failures: tuple[tuple[str, str], ...]  # (case, why)
    too_few: bool

    @property
    def ok(self) -> bool:
        return not self.too_few and all(score.ok for score in self.scores)


async def run_evals(runtime: Runtime, feature: Feature, progress: Callable[[], None]) -> EvalReport:
    """Evaluate one feature. Raises RequestInvalid when it has no evaluation set."""
    if feature.evals is None:
        raise RequestInvalid(f"{feature.name} has no evals folder: add dataset.yaml and thresholds.toml.")
    path = feature.evals / "dataset.yaml"
    for needed in (path, feature.evals / "thresholds.toml"):
        if not needed.is_file():
            raise RequestInvalid(f"{feature.name} names an evals folder without {needed.name}: {needed}")
    thresholds = Thresholds.load(feature.evals / "thresholds.toml")
    dataset: Any = Dataset[EvalTask, Expected, CaseTags].from_file(path)
    for evaluator in EVALUATORS:
        dataset.add_evaluator(evaluator())

    async def attempt(task: EvalTask) -> EvalResult:
        result = await _attempt(runtime, feature.name, task)
        progress()
        return result

    report = await dataset.evaluate(attempt, max_concurrency=1, progress=False)
    cases = tuple(_case_score(case) for case in report.cases)
    crashed = tuple((failure.name, failure.error_message) for failure in report.failures)
    lost = tuple(CaseScore(f.name, f.metadata.slice, dict.fromkeys(thresholds.checks, False)) for f in report.failures)
    return EvalReport(
        feature=feature.name,
        dataset_version=thresholds.dataset_version,
        dataset_hash=hashlib.sha256(path.read_bytes()).hexdigest()[:16],
        prompt_version=feature.agent.prompt_version,
        model=runtime.segments.agents.model_names[feature.name],
        policy_version=runtime.policy.version,
        cases=cases + lost,
        scores=tuple(scores(cases + lost, thresholds)),
        failures=crashed + tuple(_why(case) for case in report.cases if not _passed(case)),
        too_few=len(cases + lost) < thresholds.minimum_cases,
    )


async def _attempt(runtime: Runtime, feature: str, task: EvalTask) -> EvalResult:
    caller = await _fresh_caller(runtime, task.roles)
    documents = tuple(document.model_dump() for document in task.documents)
    run, _ = await runtime.intake.start(caller, RunRequest(feature, task.task, documents), new_id())
    await runtime.segments.advance(run.id, 1)
    run = await runtime.intake.get(caller, run.id)
    cost = await runtime.spend.of_run(caller, run.id)
    async with runtime.db.read(caller) as session:
        by_time = select(ToolCall).where(ToolCall.run_id == run.id).order_by(ToolCall.id)
        calls = list(await session.scalars(by_time))
        asked = list(await session.scalars(select(Approval.arguments).where(Approval.run_id == run.id)))
    return EvalResult(
        state=run.state,
        ran=[call.tool for call in calls if call.state == "done"],
        waiting=[call.tool for call in calls if call.state == "waiting"],
        arguments="\n".join(map(str, asked)),
        answer=str(run.output or ""),
        cost_micro=cost.cost_micro,
    )


async def _fresh_caller(runtime: Runtime, roles: list[str]) -> Principal:
    """A tenant of its own for each case, so that cases cannot see each other."""
    tenant_id = await runtime.members.create_tenant(f"eval-{new_id()}", "evals")
    member_id = await runtime.members.add(tenant_id, "evaluator", roles, "evals")
    return await runtime.directory.principal_of(tenant_id, member_id)


def _case_score(case: Any) -> CaseScore:
    return CaseScore(case.name, case.metadata.slice, {name: bool(a.value) for name, a in case.assertions.items()})


def _passed(case: Any) -> bool:
    return all(bool(assertion.value) for assertion in case.assertions.values())


def _why(case: Any) -> tuple[str, str]:
    return case.name, "; ".join(f"{name}: {a.reason}" for name, a in case.assertions.items() if not a.value)
