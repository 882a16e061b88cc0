"""The main job through the front door: a running service, on SQLite and on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import update

from app.db.base import utc_now
from app.db.tenancy import ALL_TENANTS
from app.runtime import Runtime
from app.tools.models import Approval
from gates.rig.people import Person
from gates.rig.service import Service, wait_for

DOCUMENTS = [("mail.txt", "Checkout fails with error 502 since 9:00. Urgent."), ("log.txt", "upstream timed out")]
TASK = "Check whether we know this outage, and create a ticket for it."
CAST = (["member"], ["approver"], ["viewer"], ["admin"])


def _tickets(service: Service, who: Person) -> list[dict[str, str]]:
    items: list[dict[str, str]] = service.call(who, "GET", "/v1/assistant/tickets").json()["items"]
    return items


def test_a_write_waits_for_another_person_and_happens_once(service: Service) -> None:
    member, approver, _, admin = service.people(*CAST)
    started = service.start_run(member, TASK, documents=DOCUMENTS)
    assert started.status_code == 202
    run_id = started.json()["id"]
    assert started.headers["Location"] == f"/v1/runs/{run_id}"
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert (question["tool"], question["effect"]) == ("create_ticket", "write")
    assert _tickets(service, member) == []

    assert service.decide(approver, question).status_code == 200
    run = service.run_until(member, run_id, "succeeded")
    [ticket] = _tickets(service, member)
    assert run["output"]["ticket_ids"] == [ticket["id"]]
    assert run["output"]["sources"] == ["mail.txt", "log.txt"]
    assert run["usage"]["model_calls"] == 3
    usage = service.call(member, "GET", "/v1/usage").json()
    assert usage["cost_usd"] == run["usage"]["cost_usd"] != "0.000000"

    events = service.call(admin, "GET", f"/v1/audit?subject=run:{run_id}").json()["items"]
    assert [e["action"] for e in events] == [
        "run.started",
        "tool.started",
        "tool.done",
        "approval.asked",
        "approval.approved",
        "tool.started",
        "tool.done",
        "run.succeeded",
    ]
    assert service.call(admin, "GET", "/v1/audit/chain").json()["intact"]


def test_a_declined_write_never_happens_and_the_run_says_so(service: Service) -> None:
    member, approver, *_ = service.people(*CAST)
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert service.decide(approver, question, "deny").json()["state"] == "denied"
    run = service.run_until(member, run_id, "succeeded")
    assert "declined" in run["output"]["answer"]
    assert _tickets(service, member) == []


def test_who_asked_may_not_decide_even_as_an_approver(service: Service) -> None:
    both, approver = service.people(["member", "approver"], ["approver"])
    run_id = service.start_run(both, TASK).json()["id"]
    service.run_until(both, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    refused = service.decide(both, question)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
    assert service.pending(approver, run_id) == [question]


def test_fifty_parallel_decisions_make_one_effect(service: Service) -> None:
    member, approver, *_ = service.people(*CAST)
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(lambda _: service.decide(approver, question).status_code, range(50)))
    assert sorted(set(answers)) == [200, 409]
    assert answers.count(200) == 1
    service.run_until(member, run_id, "succeeded")
    assert len(_tickets(service, member)) == 1


def test_a_decision_about_something_else_is_refused(service: Service) -> None:
    member, approver, *_ = service.people(*CAST)
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert service.decide(approver, question, digest="0" * 64).status_code == 409
    assert service.decide(approver, question, digest="not-a-digest").status_code == 422
    assert service.pending(approver, run_id) == [question]


def test_twenty_parallel_starts_with_one_key_are_one_run(service: Service) -> None:
    member, *_ = service.people(*CAST)
    key = uuid4().hex
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: service.start_run(member, "Find tickets.", key=key), range(20)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(service.call(member, "GET", "/v1/runs").json()["items"]) == 1
    other = service.start_run(member, "Find something else.", key=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.key_reused")


def test_five_documents_are_accepted_and_six_are_not(service: Service) -> None:
    member, *_ = service.people(*CAST)
    five = [(f"{number}.txt", "text") for number in range(5)]
    assert service.start_run(member, "Summarise.", documents=five).status_code == 202
    assert service.start_run(member, "Summarise.", documents=[*five, ("6.txt", "text")]).status_code == 422


def test_waiting_for_the_end_gives_the_finished_run(service: Service) -> None:
    member, *_ = service.people(*CAST)
    body = {"feature": "assistant", "task": "Find tickets about printers."}
    headers = {"Idempotency-Key": uuid4().hex, "Prefer": "wait=20"}
    done = service.call(member, "POST", "/v1/runs", json=body, headers=headers)
    assert (done.status_code, done.json()["state"]) == (200, "succeeded")


def test_a_viewer_may_look_and_not_start(service: Service) -> None:
    member, _, viewer, admin = service.people(*CAST)
    run_id = service.start_run(member, "Find tickets.").json()["id"]
    refused = service.start_run(viewer, TASK)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
    assert service.call(viewer, "GET", f"/v1/runs/{run_id}").status_code == 200
    actions = [e["action"] for e in service.call(admin, "GET", "/v1/audit").json()["items"]]
    assert "access.denied" in actions


def test_a_tenant_without_budget_gets_402_and_no_model_call(service: Service) -> None:
    spender, admin = service.people(["member"], ["admin"])
    cap = {"scope": "tenant", "limit_usd": "0"}
    assert service.call(admin, "PUT", "/v1/budgets", json=cap).status_code == 200
    refused = service.start_run(spender, TASK)
    assert (refused.status_code, refused.json()["code"]) == (402, "budget.exceeded")
    assert service.call(spender, "GET", "/v1/usage").json()["model_calls"] == 0
    assert service.call(spender, "GET", "/v1/runs").json()["items"] == []
    assert service.call(admin, "PUT", "/v1/budgets", json=cap | {"limit_usd": "1"}).status_code == 200
    assert service.start_run(spender, TASK).status_code == 202


def test_another_tenant_sees_nothing_and_foreign_looks_like_missing(service: Service) -> None:
    member, approver, *_ = service.people(*CAST)
    stranger, judge, keeper = service.people(["member", "viewer"], ["approver"], ["admin"])
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert service.pending(judge, run_id) == []
    missing = str(uuid4())
    pairs = [
        (
            service.call(stranger, "GET", f"/v1/runs/{run_id}"),
            service.call(stranger, "GET", f"/v1/runs/{missing}"),
        ),
        (
            service.decide(judge, question),
            service.decide(judge, {**question, "id": missing}),
        ),
    ]
    keys = service.call(keeper, "GET", "/v1/keys").json()["items"]
    assert {key["prefix"] for key in keys} == {who.key.split("_")[2] for who in (stranger, judge, keeper)}
    for foreign, absent in pairs:
        assert foreign.status_code == absent.status_code == 404
        unlike = {"request_id"}
        foreign_body = {k: v for k, v in foreign.json().items() if k not in unlike}
        assert foreign_body == {k: v for k, v in absent.json().items() if k not in unlike}
    for path in ("/v1/runs", "/v1/assistant/tickets"):
        assert service.call(stranger, "GET", path).json()["items"] == []
    assert service.pending(approver, run_id) == [question], "a stranger's decision must not have counted"


def test_a_revoked_key_is_refused_at_once(service: Service) -> None:
    member, admin = service.people(["member"], ["admin"])
    keys = service.call(admin, "GET", "/v1/keys").json()["items"]
    [key_id] = [key["id"] for key in keys if key["prefix"] == member.key.split("_")[2]]
    assert service.call(member, "GET", "/v1/runs").status_code == 200
    assert service.call(admin, "DELETE", f"/v1/keys/{key_id}").status_code == 204
    assert service.call(member, "GET", "/v1/runs").status_code == 401


def test_a_scoped_key_can_do_less_than_its_member(service: Service) -> None:
    member, admin = service.people(["member"], ["admin"])
    body = {"member_id": member.member_id, "scopes": ["runs:read"]}
    issued = service.call(admin, "POST", "/v1/keys", json=body)
    assert issued.status_code == 201
    narrow = {"Authorization": f"Bearer {issued.json()['key']}"}
    assert service.call(None, "GET", "/v1/runs", headers=narrow).status_code == 200
    assert service.call(None, "GET", "/v1/usage", headers=narrow).status_code == 403


def test_a_key_cannot_give_more_than_its_issuer_has(service: Service) -> None:
    admin, operator, member = service.people(["admin"], ["platform_operator"], ["member"])
    escalated = service.call(admin, "POST", "/v1/keys", json={"member_id": operator.member_id})
    assert (escalated.status_code, escalated.json()["code"]) == (403, "auth.forbidden")
    body = {"member_id": admin.member_id, "scopes": ["keys:write"]}
    limited = {"Authorization": f"Bearer {service.call(admin, 'POST', '/v1/keys', json=body).json()['key']}"}
    for scopes in (None, ["keys:write", "audit:read"]):
        wider = {"member_id": admin.member_id, "scopes": scopes}
        assert service.call(None, "POST", "/v1/keys", json=wider, headers=limited).status_code == 403
    assert service.call(None, "POST", "/v1/keys", json=body, headers=limited).status_code == 201
    unknown = {"member_id": member.member_id, "scopes": ["no:such"]}
    assert service.call(admin, "POST", "/v1/keys", json=unknown).status_code == 422


def test_one_s_own_decision_is_refused_on_record(service: Service) -> None:
    both, approver, admin = service.people(["member", "approver"], ["approver"], ["admin"])
    run_id = service.start_run(both, TASK).json()["id"]
    service.run_until(both, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert service.decide(both, question).status_code == 403
    events = service.call(admin, "GET", f"/v1/audit?subject=approval:{question['id']}").json()["items"]
    assert [event["action"] for event in events] == ["access.denied"]


def test_a_kill_switch_stops_new_runs_and_release_lets_them_go_on(service: Service) -> None:
    operator, member = service.people(["platform_operator"], ["member"])
    name = f"tenant:{member.tenant_id}"
    on = {"state": "on", "reason": "drill"}
    assert service.call(member, "PUT", f"/v1/switches/{name}", json=on).status_code == 403
    assert service.call(operator, "PUT", f"/v1/switches/{name}", json=on).status_code == 200
    refused = service.start_run(member, TASK)
    assert (refused.status_code, refused.json()["code"]) == (503, "service.halted")
    assert refused.headers["Retry-After"]
    off = {"state": "off", "reason": "drill over"}
    assert service.call(operator, "PUT", f"/v1/switches/{name}", json=off).json()["items"] == []
    assert service.start_run(member, TASK).status_code == 202
    bad = service.call(operator, "PUT", "/v1/switches/everything", json=on)
    assert bad.status_code == 422


@pytest.mark.parametrize("path", ["/metrics", "/version", "/docs", "/redoc"])
def test_operations_and_docs_are_not_on_the_public_port(service: Service, path: str) -> None:
    assert service.call(None, "GET", path).status_code == 404


def test_metrics_count_what_happened(service: Service) -> None:
    member, *_ = service.people(*CAST)
    run_id = service.start_run(member, "Find tickets.").json()["id"]
    service.run_until(member, run_id, "succeeded")
    metrics = service.operations("/metrics").text
    assert 'ai_runs_total{feature="assistant",outcome="succeeded"}' in metrics
    assert "ai_cost_usd_total" in metrics
    assert service.operations("/version").json()["prompts"]["assistant"]


def test_a_question_nobody_answers_expires(service: Service) -> None:
    member, approver, *_ = service.people(*CAST)
    run_id = service.start_run(member, TASK).json()["id"]
    service.run_until(member, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    _expire(service, question["id"])
    run = wait_for(lambda: service.run_until(member, run_id, "succeeded"))
    assert "in time" in run["output"]["answer"]
    late = service.decide(approver, question)
    assert (late.status_code, late.json()["code"]) == (410, "policy.approval_expired")
    assert _tickets(service, member) == []


def _expire(service: Service, approval_id: str) -> None:
    """Let the question's hour pass."""

    async def work(runtime: Runtime) -> None:
        async with runtime.db.transaction(ALL_TENANTS) as session:
            past = utc_now() - timedelta(seconds=1)
            await session.execute(update(Approval).where(Approval.id == approval_id).values(expires_at=past))

    service.inside(work)
