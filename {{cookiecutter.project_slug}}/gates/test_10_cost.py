"""Gate 10, cost: are model costs bounded, whatever the model, its provider and a hundred callers at once do?"""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply, Wire
from gates.rig.people import Person
from gates.rig.provider import calls, fault, says, status
from gates.rig.world import Ran, World, final

CALLERS = 100
CAP_OF_CALLS = 12  # the cap is this many worst cases


def _usage(world: World, who: Person) -> dict[str, Any]:
    found: dict[str, Any] = world.service.call(who, "GET", "/v1/usage").json()
    return found


def _tenant_budget(world: World, who: Person) -> dict[str, Decimal]:
    items = world.service.call(who, "GET", "/v1/budgets").json()["items"]
    [budget] = [item for item in items if (item["scope"], item["period"]) == ("tenant", "month")]
    amounts = {name: value for name, value in budget.items() if name.endswith("_usd") and value is not None}
    return {name.removesuffix("_usd"): Decimal(value) for name, value in amounts.items()}


def _hundred_callers(proof: Proof, world: World) -> None:
    spender, admin, other = *world.people(["probe_reader"], ["probe_admin"]), *world.people(["probe_reader"])
    expensive = replace(final(), usage=None, delay=0.2)  # without usage each call costs its worst case
    with proof.positive("a run inside the budget succeeds and is charged"):
        assert world.run(spender, expensive).state["state"] == "succeeded"
    worst = _tenant_budget(world, spender)["spent"]
    cap = worst * (1 + CAP_OF_CALLS + Decimal("0.5"))  # the half: who does not ask how much, goes over
    body = {"scope": "tenant", "limit_usd": f"{cap:.6f}"}
    assert world.service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
    before = len(world.model.ledger)
    with ThreadPoolExecutor(25) as pool:
        started = list(pool.map(lambda _: world.start(spender, expensive), range(CALLERS)))
    ended = [world.settled(spender, ran) for ran in started]
    budget = _tenant_budget(world, spender)
    proof.holds("under-the-cap", budget["spent"] + budget["held"] <= cap, budget)
    reached = len(world.model.ledger) - before
    proof.holds("under-the-cap", worst * (reached + 1) <= cap, f"{reached} calls of ${worst} under ${cap}")
    proof.holds("usable", budget["spent"] >= cap * Decimal("0.9"), budget)
    for ran in ended:
        proof.holds("refused-typed", _ended_well(ran), ran.state or ran.answer.text)
    unaffected = world.run(other, final())
    proof.same("others-unaffected", unaffected.state.get("state"), "succeeded")


def _ended_well(ran: Ran) -> bool:
    if ran.answer.status_code == 402:
        return bool(ran.answer.json()["code"] == "budget.exceeded")
    error = ran.state.get("error") or {}
    return ran.state.get("state") == "succeeded" or error.get("code") == "budget.exceeded"


@control("CST-01", cases=100, attempts=3)
def test_a_hundred_callers_at_once_stay_under_the_cap(proof: Proof, world: World) -> None:
    _hundred_callers(proof, world)


@control("CST-01", cases=100, attempts=3, slow=True)
def test_a_hundred_callers_at_once_stay_under_the_cap_on_postgresql(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with new_world(new_postgres()) as world:
        _hundred_callers(proof, world)


@control("CST-01", cases=14)
def test_each_scope_has_caps_of_its_own_by_the_day_and_by_the_month(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        with proof.positive("with room in every cap a run succeeds"):
            assert world.run(world.people(["probe_reader"])[0], final()).state["state"] == "succeeded"
        windows = [f"{scope}_{often}" for scope in ("global", "tenant", "member") for often in ("daily", "monthly")]
        for cap in (f"{window}_usd" for window in (*windows, "run")):
            (world.config / "budgets.toml").write_text(f'[caps]\n{cap} = "0.000001"\n')
            # A fresh database: a window keeps the cap it was made with.
            with new_world(CONFIG_DIR=str(world.config)) as tight:
                ran = tight.run(tight.people(["probe_reader"])[0], final())
            proof.same("every-scope", len(ran.script.seen), 0, f"{cap} is used up, requests at the provider:")
            proof.holds("every-scope", ran.state.get("state") != "succeeded", cap)


MODES: dict[str, tuple[Reply, ...]] = {
    "an answer at once": (final(),),
    "a tool and an answer": (calls("probe_lookup", {"query": "a"}), final()),
    "two repairs": (says("no form at all"), calls("final_result", {"mood": 1}), final()),
    "an error": (status(500),),
    "busy": (status(429),),
    "no credit": (status(429, kind="insufficient_quota"),),
    "not allowed": (status(401),),
    "no usage": (replace(final(), usage=None),),
    "another model's name": (replace(final(), model="something-else"),),
    "broken JSON": (Reply(raw=b'{"id": "x", "choi'),),
    "a connection that breaks": (fault("die"),),
    "silence": (fault("hang", seconds=8),),
    "drops": (fault("drip", seconds=8),),
}


@control("CST-02", cases=2 * len(MODES) + 4)
@pytest.mark.parametrize("wire", ["openai", "anthropic"])
def test_every_request_that_reaches_the_provider_is_metered(proof: Proof, new_world: NewWorld, wire: Wire) -> None:
    with new_world(wire=wire, MODEL_TIMEOUT_MS="1500") as world:
        with proof.positive("a metered run succeeds"):
            assert world.run(world.people(["probe_reader"])[0], final()).state["state"] == "succeeded"
        for mode, script in MODES.items():
            [who] = world.people(["probe_reader"])
            ran = world.run(who, *script)
            usage = _usage(world, who)
            proof.same("every-request-metered", usage["model_calls"], len(ran.script.seen), mode)
            if all(reply.usage and not reply.fault and reply.status == 200 and not reply.raw for reply in script):
                billed = sum(exchange.input_tokens + exchange.output_tokens for exchange in ran.script.seen)
                metered = sum(item["input_tokens"] + item["output_tokens"] for item in usage["items"])
                proof.same("tokens-agree", metered, billed, mode)
            proof.same("nothing-left-held", _tenant_budget(world, who)["held"], 0, mode)


@control("CST-03", cases=12)
def test_every_request_is_capped_in_length_and_time(proof: Proof, new_world: NewWorld) -> None:
    with new_world(MODEL_TIMEOUT_MS="1000") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("a quick answer arrives"):
            ran = world.run(who, calls("probe_lookup", {"query": "a"}), says("no form"), final())
            assert ran.state["state"] == "succeeded"
        for request in ran.script.requests:
            asked = request.get("max_completion_tokens") or request.get("max_tokens") or 10**9
            proof.holds("output-cap", 0 < asked <= 900, asked)
        for slow in (fault("hang", seconds=8), fault("drip", seconds=8), replace(final(), delay=8)):
            ran = world.start(who, slow)
            time.sleep(2.5)  # the deadline, and a second and a half for everything around it
            run = world.service.call(who, "GET", f"/v1/runs/{ran.answer.json()['id']}").json()
            where = f"{slow.fault or 'late'}: 1 s was allowed, after 2.5 s"
            proof.same("deadline", run["state"], "failed", where)
            proof.same("deadline", (run["error"] or {}).get("code"), "provider.timeout", where)
            closed = all(exchange.closed_early for exchange in ran.script.seen)
            proof.holds("upstream-closed", closed, "the provider still had the connection")


@control("CST-04", cases=18)
def test_what_has_no_known_price_or_usage_is_never_free(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    with proof.positive("a call with usage costs exactly that"):
        world.run(who, replace(final(), usage=(100, 50)))
        assert _tenant_budget(world, who)["spent"] == World.price((100, 50))
    least = World.price((0, 900))
    for strange in (None, (0, 0), (-5, 5), (5, -5)):
        [who] = world.people(["probe_reader"])
        world.run(who, replace(final(), usage=strange))
        spent = _tenant_budget(world, who)["spent"]
        proof.holds("missing-usage", spent >= least, f"{strange}: ${spent}, worst case at least ${least}")
    for broken in (fault("die"), Reply(raw=b'{"id": "x", "choi')):
        [who] = world.people(["probe_reader"])
        world.run(who, broken)
        spent = _tenant_budget(world, who)["spent"]
        proof.holds("missing-usage", spent >= least, f"an answer that broke off: ${spent}, at least ${least}")
    for impossible in ((12, 10_000_000), (10_000_000, 5)):
        _disputed(proof, world, impossible, least)
    models = world.config / "models.toml"
    for unpriced in ("made-up-model-9", "openai/none"):
        text = f'[providers.openai]\nstandard = {{ model = "{unpriced}" }}\n'
        code, told = _starts_with(world, models, text)
        proof.holds("unpriced-refused", code != 0 and "no known price" in told, (code, told[-300:]))
        proof.holds("unpriced-refused", unpriced in told, told[-300:])


def _disputed(proof: Proof, world: World, usage: tuple[int, int], least: Decimal) -> None:
    """fault 39: no answer to this request can have used so much, on a cap of 900 tokens and as few bytes."""
    [who] = world.people(["probe_reader", "probe_admin"])
    before = _disputes_counted(world)
    world.run(who, replace(final(), usage=usage))
    spent = _tenant_budget(world, who)["spent"]
    proof.holds("believable", least <= spent <= least * 2, f"{usage}: ${spent}, worst case at least ${least}")
    states = world.sql("SELECT state FROM model_calls WHERE member_id = ?", who.member_id)
    proof.same("dispute-told", states, [("disputed",)], f"{usage}: its record")
    items = world.service.call(who, "GET", "/v1/audit?limit=500").json()["items"]
    told = [item["data"]["reported"] for item in items if item["action"] == "model_call.disputed"]
    reported = {"input_tokens": usage[0], "output_tokens": usage[1]}
    proof.same("dispute-told", told, [reported], f"{usage}: the audit trail")
    proof.same("dispute-told", _disputes_counted(world) - before, 1, f"{usage}: the number that an alert looks at")


def _disputes_counted(world: World) -> float:
    lines = world.service.operations("/metrics").text.splitlines()
    return float(next((line.split()[1] for line in lines if line.startswith("ai_usage_disputed_total ")), "0"))


def _starts_with(world: World, models: Any, text: str) -> tuple[int, str]:
    """Try to start the service with another price table; its exit code and what it said."""
    good = models.read_text()
    models.write_text(text)
    try:
        done = world.command("serve", timeout=120)
    except subprocess.TimeoutExpired:
        return 0, "it serves"
    finally:
        models.write_text(good)
    return done.returncode, done.stdout + done.stderr
