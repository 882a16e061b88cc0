"""The critical flow of the service, in typed calls of a client that was generated from its contract.

`service_client` exists only while `make e2e` runs. What a step expects of an answer it says in the client's types, so
mypy refuses a flow that the contract does not allow, and a step fails where the service does not keep to it.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from service_client import AuthenticatedClient
from service_client.api.approvals import decide, list_approvals
from service_client.api.audit import list_events, verify_chain
from service_client.api.keys import revoke_key, rotate_key
from service_client.api.runs import get_run, list_runs, start_run, stream_events
from service_client.api.tool_calls import list_calls_of_run
from service_client.api.usage import get_usage
from service_client.errors import UnexpectedStatus
from service_client.models import (
    ApprovalDecision,
    ApprovalDecisionDecision,
    ApprovalView,
    AuditPage,
    Calls,
    ChainView,
    KeyIssued,
    KeyRotation,
    ListApprovalsState,
    PageApprovalView,
    PageRunView,
    Problem,
    RunCreate,
    RunCreateFeature,
    RunView,
    Usage,
)
from service_client.types import Response

WAIT_SECONDS = 300
Told = TypeVar("Told")


class Unexpected(Exception):
    """The service answered something else than the flow is about."""


WRONG = (Unexpected, UnexpectedStatus, httpx.HTTPError, ValueError, KeyError, TypeError)


def steps(base_url: str, keys: Mapping[str, str], admins_key_id: str, task: str) -> Iterator[str]:
    """Play the flow; each step that held is told. Raises one of WRONG at the first that did not."""
    writer, approver, admin = (_client(base_url, keys[name]) for name in ("writer", "approver", "admin"))
    body = RunCreate(feature=RunCreateFeature.PROBE, task=task)
    key = f"e2e-{uuid4().hex}"

    stranger = _client(base_url, "svc_test_nobody_nothing")
    _problem(list_runs.sync_detailed(client=stranger), 401, "auth.unauthenticated")
    mine = _told(PageRunView, list_runs.sync_detailed(client=writer), 200)
    _require(mine.items == [], "nobody has started a run yet")
    yield "an unknown key is refused; the writer signs in with theirs"

    run = _told(RunView, start_run.sync_detailed(client=writer, body=body, idempotency_key=key), 202)
    again = _told(RunView, start_run.sync_detailed(client=writer, body=body, idempotency_key=key), 202)
    _require(again.id == run.id, "the same Idempotency-Key is the same run")
    yield "a run is started; the same request, sent again, is the same run"

    _state(writer, run.id, "waiting")
    page = list_approvals.sync_detailed(client=approver, state=ListApprovalsState.PENDING, run_id=run.id)
    [question] = _told(PageApprovalView, page, 200).items
    _require(question.tool == "probe_write", "the question is about the tool")
    asked = question.arguments.to_dict() if question.arguments is not None else None  # gone with its run's content
    _require(asked == {"text": "as agreed"}, "the question shows what would be done")
    yield "the run waits for a person, who is shown exactly what would be done"

    yes = ApprovalDecision(decision=ApprovalDecisionDecision.APPROVE, digest=question.digest, reason="as agreed")
    _problem(decide.sync_detailed(question.id, client=writer, body=yes), 403, "auth.forbidden")
    yield "who asked may not approve: 403, as a problem"

    approved = _told(ApprovalView, decide.sync_detailed(question.id, client=approver, body=yes), 200)
    _require(approved.id == question.id, "the answer is about the question")
    _problem(decide.sync_detailed(question.id, client=approver, body=yes), 409, "resource.conflict")
    yield "another person approves it by its digest, once"

    done = _state(writer, run.id, "succeeded")
    _require(done.output == {"answer": "It is written down.", "mood": "calm"}, "the answer is the agent's")
    yield "the run succeeds with its typed answer"

    made = _told(Calls, list_calls_of_run.sync_detailed(run.id, client=writer), 200).items
    _require([(call.tool, call.state) for call in made] == [("probe_write", "done")], "one tool call, done")
    events = stream_events.sync_detailed(run.id, client=writer).content.decode()
    _require("event: approval." in events and "event: run.succeeded" in events, "events up to the end")
    yield "its one tool call is listed, and its events are told up to the end"

    trail = _told(AuditPage, list_events.sync_detailed(client=admin, subject=f"run:{run.id}"), 200)
    actions = [event.action for event in trail.items]
    _require(actions[-1] == "run.succeeded" and "tool.done" in actions, f"all of it on record, not {actions}")
    chain = _told(ChainView, verify_chain.sync_detailed(client=admin), 200)
    _require(chain.intact and chain.broken_at is None and chain.events >= len(actions), "the chain verifies")
    yield "all of it is on record, and the record's chain verifies"

    usage = _told(Usage, get_usage.sync_detailed(client=writer), 200)
    cost = Decimal(done.usage.cost_usd)
    _require(usage.model_calls == done.usage.model_calls == 2, "two model calls")
    _require(cost > 0 and Decimal(usage.cost_usd) == cost, "the tenant has paid what the run cost")
    yield f"it cost ${cost}, and that is what the tenant has spent"

    _problem(get_run.sync_detailed(str(uuid4()), client=writer), 404, "resource.not_found")
    yield "a run that is not there is a 404, as a problem"

    both = KeyRotation(overlap_hours=1)
    new = _told(KeyIssued, rotate_key.sync_detailed(admins_key_id, client=admin, body=both), 201)
    renewed = _client(base_url, new.key)
    for valid in (admin, renewed):
        _told(ChainView, verify_chain.sync_detailed(client=valid), 200)
    _require(revoke_key.sync_detailed(admins_key_id, client=renewed).status_code == 204, "the old key is revoked")
    _problem(verify_chain.sync_detailed(client=admin), 401, "auth.unauthenticated")
    _told(ChainView, verify_chain.sync_detailed(client=renewed), 200)
    yield "a key is rotated, both work for a while, and the old one is refused once it is revoked"


def _client(base_url: str, key: str) -> AuthenticatedClient:
    return AuthenticatedClient(
        base_url=base_url,
        token=key,
        raise_on_unexpected_status=True,
        timeout=httpx.Timeout(400),
        httpx_args={"trust_env": False},
    )


def _told(kind: type[Told], answer: Response[Problem | Told], status: int) -> Told:
    """What was answered, in its type."""
    if answer.status_code != status or not isinstance(answer.parsed, kind):
        raise Unexpected(f"not {status} {kind.__name__} but {answer.status_code}: {answer.content[:300]!r}")
    return answer.parsed


def _problem(answer: Response[Problem | Any], status: int, code: str) -> None:
    problem = _told(Problem, answer, status)
    _require(problem.code == code and problem.status == status, f"{code} expected, not {problem.code}")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Unexpected(what)


def _state(client: AuthenticatedClient, run_id: str, state: str) -> RunView:
    def look() -> RunView | None:
        run = _told(RunView, get_run.sync_detailed(run_id, client=client), 200)
        return run if run.state == state else None

    return _awaited(look, f"the run is {state}")


def _awaited(look: Callable[[], Told | None], what: str) -> Told:
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        if found := look():
            return found
        time.sleep(0.1)
    raise Unexpected(f"not within {WAIT_SECONDS} s: {what}")
