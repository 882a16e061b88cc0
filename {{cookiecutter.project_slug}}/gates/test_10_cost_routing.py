"""Gate 10, cost: which tier answers, and that it is never above what the tenant may use or can still pay for."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import asked_chat
from gates.rig.people import Person
from gates.rig.provider import calls, says
from gates.rig.reasoning import MAX_TOKENS, reasoned
from gates.rig.service import running
from gates.rig.tiers import priced_tiers
from gates.rig.world import ONE_ATTEMPT, World, final

ORDER = ("small", "standard", "large")
EASY = "What is the capital of Portugal?"
MIDDLE = "Write a friendly email to a customer whose delivery is late, and explain our refund policy in plain words."
HARD = (
    "Compare the three contracts clause by clause, analyse every contradiction between their liability terms, evaluate "
    "the risks, and justify step by step which one you recommend."
)
OPERATOR = ["platform_operator"]


def _model(world: World, who: Person, text: str, *, tokens: int = 0, **more: Any) -> str:
    """The tier whose model the provider was asked for, by its own account."""
    reply = says("Good day.")
    script = world.model.script(reasoned(reply, tokens) if tokens else reply)
    messages = [{"role": "user", "content": script.task(text)}]
    asked_chat(world, who, script, **{"model": "auto", "messages": messages, **more})
    return str(script.requests[0]["model"]).removeprefix("probe-") if script.requests else "none"


@control("CST-07", cases=28)
def test_the_tier_fits_the_task_and_the_tenant(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=priced_tiers(ONE_ATTEMPT)) as world:
        who, operator = world.people(["probe_chatter"], OPERATOR)
        with proof.positive("a tier that is asked for by name answers"):
            assert [_model(world, who, EASY, model=tier) for tier in ORDER] == list(ORDER)
        for stream in (False, True):
            seen = [_model(world, who, text, stream=stream) for text in (EASY, MIDDLE, HARD)]
            proof.same("by-complexity", seen, list(ORDER), f"streamed: {stream}")
        for most in ORDER:
            body = {"tier": most}
            assert world.service.call(operator, "PATCH", f"/v1/tenants/{who.tenant_id}", json=body).status_code == 200
            allowed = ORDER[: ORDER.index(most) + 1]
            for model in ("auto", *ORDER):
                for text in (EASY, HARD):
                    seen_tier = _model(world, who, text, model=model)
                    proof.holds("never-above", seen_tier in allowed, f"{model} for a tenant of {most}: {seen_tier}")
        [other] = world.people(["probe_chatter"])
        proof.same("never-above", _model(world, other, HARD), "large", "another tenant is not held to it:")
        body = {"tier": "huge"}
        refused = world.service.call(operator, "PATCH", f"/v1/tenants/{who.tenant_id}", json=body)
        proof.same("never-above", refused.status_code, 422, "a tier there is not:")


@control("CST-06", cases=11)
def test_a_budget_that_runs_low_is_answered_cheaper_and_one_that_is_out_stays_out(
    proof: Proof, new_world: NewWorld, tmp_path: Path
) -> None:
    with new_world(catalogue=priced_tiers(ONE_ATTEMPT)) as world:
        who, admin = world.people(["probe_chatter"], ["probe_admin"])
        with proof.positive("with room in the budget the tier is the one asked for"):
            assert _model(world, who, HARD, tokens=MAX_TOKENS) == "large"
        for part, expected in ((Decimal("0.70"), "large"), (Decimal("0.85"), "standard")):
            _cap(world, admin, world.spent(admin) / part)
            proof.same("soft-step", _model(world, who, HARD), expected, f"{part} of the cap is spent:")
        proof.same("soft-step", _model(world, who, EASY), "small", "there is none below the lowest:")
        [other] = world.people(["probe_chatter"])
        proof.same("soft-step", _model(world, other, HARD), "large", "another tenant has its own:")
        _alerts(proof, world, who, admin)
        _cap(world, admin, world.spent(admin))
        proof.same("hard-stop", _refused(world, who), "budget.exceeded", "the cap is reached:")
        world.service.kill()
        world.service.start()
        proof.same("hard-stop", _refused(world, who), "budget.exceeded", "after a crash and a start:")
        environment = world.service.environment
        with running(world.service.database_url, tmp_path, "gates.rig.serve", **environment) as replica:
            body = {"model": "small", "messages": [{"role": "user", "content": EASY}]}
            answer = replica.call(who, "POST", "/v1/chat/completions", json=body)
            proof.same("hard-stop", answer.status_code, 402, "at another replica:")


def _alerts(proof: Proof, world: World, who: Person, admin: Person) -> None:
    """A cap that is passed by half, nearly and wholly says so, once each, on record and as a number."""
    _cap(world, admin, Decimal(15))
    _model(world, who, HARD, model="large", tokens=MAX_TOKENS)
    for percent, part, tokens in ((50, "0.48", 10_000), (80, "0.78", 10_000), (100, "0.98", 50_000)):
        _cap(world, admin, world.spent(admin) / Decimal(part))
        before = _told(world, admin)
        for _ in range(3):
            _model(world, who, HARD, model="large", tokens=tokens)
        told = [event["data"]["percent"] for event in _told(world, admin)[len(before) :]]
        proof.holds("alerts", told.count(percent) == 1, f"{percent} %: {told}")
    metrics = world.service.operations("/metrics").text
    proof.holds("alerts", 'ai_budget_thresholds_total{percent="80",scope="tenant"}' in metrics, "no number of it")


def _told(world: World, admin: Person) -> list[Any]:
    items = world.service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]
    passed = [item for item in items if item["action"] == "budget.threshold"]
    return [item for item in passed if item["subject"].startswith("budget:tenant:")]


def _cap(world: World, admin: Person, usd: Decimal) -> None:
    body = {"scope": "tenant", "limit_usd": f"{usd:.6f}"}
    assert world.service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200


def _refused(world: World, who: Person) -> str:
    return asked_chat(world, who, world.model.script(says("Good day."))).code


@control("CST-07", cases=7)
def test_an_agent_s_run_keeps_why_its_model_was_chosen(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=priced_tiers(ONE_ATTEMPT), RIG_TIER="auto") as world:
        [who] = world.people(["probe_reader"])
        for text, tier in ((EASY, "small"), (HARD, "large")):
            script = world.model.script(final())
            started = world.service.start_run(who, script.task(text), feature="probe").json()
            run = world.service.run_until(who, started["id"], "succeeded", "failed")
            with proof.positive("the run succeeds"):
                assert run["state"] == "succeeded"
            proof.same("by-complexity", script.requests[0]["model"], f"probe-{tier}", "an agent that asks for auto:")
            route = run["route"] or {}
            proof.same("recorded", (route.get("tier"), route.get("reason")), (tier, "complexity"))
            proof.same("recorded", run["model"], f"probe-{tier}")
        script = world.model.script(says("no form"), calls("final_result", {"mood": 1}), final())
        started = world.service.start_run(who, script.task(EASY), feature="probe").json()
        world.service.run_until(who, started["id"], "succeeded", "failed")
        seen = [request["model"].removeprefix("probe-") for request in script.requests]
        proof.same("one-up-to-repair", seen, ["small", "standard", "standard"], "each repair is one tier up, no more:")
