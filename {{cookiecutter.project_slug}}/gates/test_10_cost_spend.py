"""Gate 10, cost, and gate 6, observability: who has spent what on what, whether it adds up, and where it is going."""

import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from app.budgets.caps import Payer
from app.budgets.money import to_micro
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import asked_chat
from gates.rig.formats import Reply
from gates.rig.interfaces import CHAT, EMBEDDINGS, RESPONSES, asked_vectors
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import Answer, Body, Script, calls, fault, says, status
from gates.rig.reasoning import MAX_TOKENS, reasoned
from gates.rig.responses import as_response, asked_response
from gates.rig.service import wait_for
from gates.rig.tiers import priced_tiers
from gates.rig.vectors import embedding_models, vectors, without_usage
from gates.rig.world import MODEL, World, final, models

DIMENSIONS = ("day", "member", "feature", "tier", "model", "prompt_version")
PROMPT_READER = ["probe_reader", "probe_chatter"]
RETRYING = "attempts = 3\nfirst_wait_ms = 1\nbreaker_faults = 1000\n"
LOOK = calls("probe_lookup", {"query": "a"}, "call_look")


@dataclass
class Asked:
    """One thing that somebody had done, and what the provider saw of it."""

    who: Person
    feature: str
    tier: str
    script: Script
    run: dict[str, Any]


CLEAN: tuple[tuple[Reply, ...], ...] = (
    (final(),),
    (LOOK, final()),
    (status(503), final()),
    (LOOK, status(500), final()),
)
MESSY: tuple[tuple[Reply, ...], ...] = (
    (final(),), (fault("die"), final()), (replace(final(), usage=None),), (status(503), LOOK, fault("die"), final()),
    (status(401),),
)  # fmt: skip


CLEAN_VECTORS: tuple[tuple[Answer, ...], ...] = ((vectors,), (status(503), vectors))
MESSY_VECTORS: tuple[tuple[Answer, ...], ...] = ((vectors,), (fault("die"), vectors), (without_usage,), (status(401),))


def _mixed(
    world: World,
    people: Sequence[Person],
    scripts: Sequence[tuple[Reply, ...]],
    of_vectors: Sequence[tuple[Answer, ...]],
    count: int,
) -> list[Asked]:
    """Runs and, in between, calls of every interface: of each tier, whole and streamed."""

    def one(number: int) -> Asked:
        who, answers = people[number % len(people)], scripts[number % len(scripts)]
        if number % 2:
            ran = world.run(who, *answers)
            return Asked(who, "probe", "standard", ran.script, ran.state)
        kind = number // 2
        if kind % 7 == 6:
            script = world.model.script(*of_vectors[kind // 7 % len(of_vectors)])
            asked_vectors(world, who, script)
            return Asked(who, EMBEDDINGS.feature, EMBEDDINGS.model, script, {})
        tier = ("small", "standard", "large")[kind % 3]
        script = world.model.script(*answers)
        ask = (asked_chat, asked_response)[kind // 2 % 2]
        ask(world, who, script, model=tier, stream=bool(kind // 3 % 2))
        return Asked(who, "chat", tier, script, {})

    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(one, range(count)))


def _model(tier: str) -> str:
    """What its provider calls it."""
    return tier if tier == EMBEDDINGS.model else f"probe-{tier}"


def _usage(world: World, who: Person, *by: str) -> Any:
    query = "&".join(f"by={name}" for name in by)
    return world.service.call(who, "GET", f"/v1/usage?{query}").json()


def _spent(world: World, who: Person) -> Decimal:
    items = world.service.call(who, "GET", "/v1/budgets").json()["items"]
    return next(Decimal(item["spent_usd"]) for item in items if (item["scope"], item["period"]) == ("tenant", "month"))


@pytest.mark.timeout(2_800)
@control("OBS-04", cases=62)
def test_what_was_spent_adds_up_whichever_way_it_is_asked_for(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=priced_tiers(RETRYING) + embedding_models(), MODEL_TIMEOUT_MS="3000") as world:
        *mine, admin = world.people(PROMPT_READER, PROMPT_READER, ["probe_admin"])
        *theirs, their_admin = world.people(PROMPT_READER, PROMPT_READER, ["probe_admin"])
        with proof.positive("a run is charged"):
            assert world.run(mine[0], final()).state["usage"]["cost_usd"] != "0.000000"
        before = _spent(world, mine[0])
        clean = _mixed(world, mine, CLEAN, CLEAN_VECTORS, 56)
        messy = _mixed(world, theirs, MESSY, MESSY_VECTORS, 58)
        strangers = {item["member"] for item in _usage(world, mine[0], "member")["items"]} & {
            p.member_id for p in theirs
        }
        proof.same("own-only", strangers, set(), "members of another tenant")
        for who, asked, more in ((mine[0], clean, before), (theirs[0], messy, Decimal(0))):
            total = _usage(world, who)
            seen = sum(len(each.script.seen) for each in asked) + (1 if more else 0)
            proof.same("adds-up", total["model_calls"], seen, "calls, and requests at the provider")
            proof.same("adds-up", Decimal(total["cost_usd"]), _spent(world, who), "cost, and the budget")
            for name in (*DIMENSIONS, *(("member", "model"), ("tier", "feature"))):
                by = (name,) if isinstance(name, str) else name
                items = _usage(world, who, *by)["items"]
                cost = sum(Decimal(item["cost_usd"]) for item in items)
                proof.same("adds-up", cost, Decimal(total["cost_usd"]), f"by {by}")
                proof.same("adds-up", sum(item["model_calls"] for item in items), seen, f"by {by}")
        _attributed(proof, world, mine, clean)
        _recorded(proof, world, admin, clean)
        _recorded(proof, world, their_admin, messy)
        for path in (CHAT.path, RESPONSES.path):
            _left_recorded(proof, world, mine[0], admin, path)
        runs = [each.run for each in messy if each.run]
        of_runs = sum(Decimal(run["usage"]["cost_usd"]) for run in runs)
        by_feature = {item["feature"]: item for item in _usage(world, theirs[0], "feature")["items"]}
        proof.same("per-run", of_runs, Decimal(by_feature["probe"]["cost_usd"]), "the runs' own costs")
        per_success, succeeded = _usage(world, theirs[0]), sum(run["state"] == "succeeded" for run in runs)
        proof.same("per-run", per_success["runs_succeeded"], succeeded)
        each_one = Decimal(per_success["cost_per_successful_run_usd"])
        proof.holds("per-run", abs(each_one * succeeded - of_runs) <= Decimal("0.000001") * succeeded, each_one)


def _attributed(proof: Proof, world: World, people: Sequence[Person], asked: Sequence[Asked]) -> None:
    """Calls of each member, feature, tier and prompt, as whoever gave the orders counted them; tokens as billed."""
    first = {"member": people[0].member_id, "feature": "probe", "tier": "standard", "model": "probe-standard"}
    for name in ("member", "feature", "tier", "model"):
        expected = Counter({first[name]: 1})  # of the positive control
        for each in asked:
            names = {"member": each.who.member_id, "feature": each.feature, "tier": each.tier}
            names["model"] = _model(each.tier)
            expected[names[name]] += len(each.script.seen)
        found = {item[name]: item["model_calls"] for item in _usage(world, people[0], name)["items"]}
        proof.same("attributed", found, dict(expected), f"by {name}")
    versions = {each.run["prompt_version"] for each in asked if each.run}
    known = {item["prompt_version"] for item in _usage(world, people[0], "prompt_version")["items"]}
    proof.same("attributed", known, {*versions, ""}, "by prompt version; what is no run has none")
    billed = sum(exchange.input_tokens + exchange.output_tokens for each in asked for exchange in each.script.seen)
    items = _usage(world, people[0])["items"]
    tokens = sum(item["input_tokens"] + item["output_tokens"] for item in items)
    proof.holds("attributed", abs(tokens - billed - 17) <= billed / 100, f"{tokens} tokens booked, {billed} billed")


def _recorded(proof: Proof, world: World, admin: Person, asked: Sequence[Asked]) -> None:
    """Each call that no run made in the audit trail, with its cost, and no word of it; a run has its own record."""
    rows = {item["feature"]: item for item in _usage(world, admin, "feature")["items"] if item["feature"] != "probe"}
    proof.same("on-record", set(rows), {"chat", "embeddings"}, "features beside the runs'")
    trail = world.service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]
    ended = [call for item in trail if item["action"] == "model_calls.ended" for call in item["data"]["calls"]]
    for feature, row in rows.items():
        of_it = [call for call in ended if call["feature"] == feature]
        proof.same("on-record", len(of_it), row["model_calls"], f"calls of {feature} on record, and those booked")
        cost = sum(Decimal(call["cost_usd"]) for call in of_it)
        proof.same("on-record", cost, Decimal(row["cost_usd"]), f"their cost, and what is booked: {feature}")
    told = json.dumps(trail)
    repeated = [each.script.token for each in asked if not each.run and each.script.token in told]
    proof.same("on-record", repeated, [], "words of a conversation in the trail")


def _left_recorded(proof: Proof, world: World, who: Person, admin: Person, path: str) -> None:
    """A stream that its client leaves is on record as well, with what was booked for it."""
    left, before, script = _left(world, admin), _spent(world, who), world.model.script(fault("endless", seconds=20))
    said: Body = {"model": "standard", "stream": True, "messages": [{"role": "user", "content": script.task()}]}
    said = said if path == CHAT.path else as_response(said)
    headers, url = {"Authorization": f"Bearer {who.key}"}, world.service.base_url + path
    with httpx2.stream("POST", url, json=said, headers=headers, **PLAIN, timeout=300) as answer:
        next(answer.iter_bytes())
    wait_for(lambda: _spent(world, who) > before)
    now = _left(world, admin)
    proof.same("on-record", len(now), len(left) + 1, f"{path}: records of streams that were left")
    proof.same("on-record", sum(now) - sum(left), _spent(world, who) - before, f"{path}: its cost, and what is booked")


def _left(world: World, admin: Person) -> list[Decimal]:
    """What each stream on record cost that its client left."""
    trail = world.service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]
    calls = [call for item in trail for call in item["data"].get("calls", ())]
    return [Decimal(call["cost_usd"]) for call in calls if call["outcome"] == "left"]


@control("CST-12", cases=31)
def test_a_replay_is_free_and_a_retry_is_paid(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models(RETRYING)) as world:
        who, admin = world.people(["probe_reader"], ["probe_admin"])
        ran = world.run(who, LOOK, final(), key="the-same")
        with proof.positive("a run is charged"):
            assert world.spent(who) == Decimal(ran.state["usage"]["cost_usd"]) > 0
        spent, asked = world.spent(who), len(ran.script.seen)
        task = ran.script.task()
        with ThreadPoolExecutor(10) as pool:
            again = list(
                pool.map(lambda _: world.service.start_run(who, task, feature="probe", key="the-same"), range(20))
            )
        for answer in again:
            proof.same("replay-free", answer.json().get("id"), ran.id, "the run it stands for")
        proof.same("replay-free", (len(ran.script.seen), world.spent(who)), (asked, spent), "20 replays later")
        for change in ({"frozen": True, "reason": "a drill"}, {"frozen": False, "reason": "over"}, {"limit_usd": "0"}):
            body = {"scope": "tenant", **change}
            assert world.service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
            answer = world.service.start_run(who, task, feature="probe", key="the-same")
            told = (answer.status_code in {200, 202}, answer.headers.get("idempotency-replayed"))
            proof.same("replay-free", told, (True, "true"), f"with {change}: {answer.text[:200]}")
        other = world.service.start_run(who, task, feature="probe", key="another")
        proof.same("replay-free", other.status_code, 402, "another key, with nothing left to spend:")
        assert world.service.call(admin, "PUT", "/v1/budgets", json={"scope": "tenant", "limit_usd": "20"}).is_success
        for answers in ((status(503), final()), (fault("die"), status(500), final()), (LOOK, fault("die"), final())):
            before = world.spent(who)
            ran = world.run(who, *answers)
            used = ran.state["usage"]
            proof.same("retries-charged", used["model_calls"], len(ran.script.seen), answers)
            proof.same("retries-charged", Decimal(used["cost_usd"]), world.spent(who) - before, answers)


HOUR_USD = Decimal("0.60")


@pytest.mark.timeout(2_800)
@control("CST-09", cases=6)
def test_spend_that_will_pass_its_cap_is_told_in_time(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=priced_tiers(RETRYING)) as world:
        who, admin = world.people(["probe_chatter"], ["probe_admin"])
        middle = datetime.now(UTC).replace(day=15, hour=10, minute=0)
        world.clock.advance((middle - datetime.now(UTC)) % timedelta(days=28))
        with proof.positive("spending is charged"):
            _spend(world, who, Decimal("0.01"))
            assert world.spent(admin) >= Decimal("0.01")
        # A day may cost a thirtieth of the month: at 24 times what the hour has cost, four times that are passed.
        slow, _ = _hour_of(world, HOUR_USD * 24 * 31 / 3)
        proof.same("quiet", _warned(world, slow, "budget.burn"), 0, "three times what a day may cost")
        boss, spender = _hour_of(world, HOUR_USD * 24 * 28 / 5)
        proof.same("burn", _warned(world, boss, "budget.burn"), 1, "five times what a day may cost")
        for _ in range(3):
            world.clock.advance(timedelta(minutes=2))
            _spend(world, spender, Decimal("0.01"))
        proof.same("once", _warned(world, boss, "budget.burn"), 1, "three looks later")
        metrics = world.service.operations("/metrics").text
        burn = next(line for line in metrics.splitlines() if line.startswith('ai_budget_burn{scope="tenant"}'))
        proof.holds("burn", float(burn.split()[1]) > 4, burn)
        _forecasts(proof, world)


def _hour_of(world: World, limit: Decimal) -> tuple[Person, Person]:
    """Somebody with this cap a month who spends so much within the hour, and their admin first."""
    spender, boss = world.people(["probe_chatter"], ["probe_admin"])
    _cap(world, boss, limit)
    _spend(world, spender, HOUR_USD)
    return boss, spender


def _forecasts(proof: Proof, world: World) -> None:
    """Half a dollar in four hours is some fifty in half a month."""
    for limit, told in ((Decimal(200), False), (Decimal(20), True)):
        world.clock.advance(timedelta(hours=5))
        spender, boss = world.people(["probe_chatter"], ["probe_admin"])
        _cap(world, boss, limit)
        _spend(world, spender, Decimal("0.50"))
        found = _warned(world, boss, "budget.forecast")
        proof.same("forecast" if told else "quiet", found, int(told), f"a cap of ${limit}")


def _spend(world: World, who: Person, usd: Decimal) -> None:
    left = int(usd * 1_000_000)  # tokens
    while left > 0:
        script = world.model.script(reasoned(says("Good day."), min(left, MAX_TOKENS)))
        assert asked_chat(world, who, script, model="large").status == 200
        left -= MAX_TOKENS


def _cap(world: World, admin: Person, usd: Decimal) -> None:
    """Set by the operator: more than the file allows."""
    limit, payer = to_micro(usd), Payer(admin.tenant_id, "")
    world.service.inside(lambda runtime: runtime.ledger.set_cap(payer, "tenant", limit, actor="proof"))


def _warned(world: World, admin: Person, action: str) -> int:
    """How often the tenant was warned of its cap, once the service has looked again."""
    world.clock.advance(timedelta(minutes=2))

    def told() -> int:
        items = world.service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]
        return sum(item["action"] == action and item["subject"].startswith("budget:tenant:") for item in items)

    looks = _looks(world)
    wait_for(lambda: _looks(world) > looks, 10)
    return told()


def _looks(world: World) -> float:
    metrics = world.service.operations("/metrics").text
    return float(next(line.split()[1] for line in metrics.splitlines() if line.startswith("ai_budget_looks_total")))


@control("CST-10", cases=7)
def test_an_invoice_agrees_with_what_was_booked(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=models("attempts = 1\nbreaker_faults = 1000\n")) as world:
        [who] = world.people(["probe_chatter"])
        script = world.model.script(replace(says("x"), usage=None))
        asked_chat(world, who, script)
        [item] = _usage(world, who)["items"]
        worst = (item["input_tokens"], item["output_tokens"])  # what a provider can bill for such a request at most
        with proof.positive("a call is on record"):
            assert item["model"] == MODEL
            assert worst[1] == 900
        billed = World.price(worst)
        for answer in (says("x"), fault("die"), fault("drip", seconds=2), replace(says("x"), usage=None), status(500)):
            for stream in (False, True):
                script = world.model.script(replace(answer, usage=answer.usage and worst))
                asked_chat(world, who, script, stream=stream)
                billed += sum(World.price(worst) for each in script.seen if answer.status == 200)
        month = f"{datetime.now(UTC):%Y-%m}"
        for factor, agrees in ((1, True), (Decimal("1.019"), True), (Decimal("1.05"), False), (Decimal("0.9"), False)):
            done = _reconciled(world, f"model,cost_usd\n{MODEL},{billed * factor:.9f}\n", month)
            proof.same("reconciles" if agrees else "differs-told", done.returncode, 0 if agrees else 1, done.stdout)
        done = _reconciled(world, f"model,cost_usd\n{MODEL},{billed:.9f}\nunknown-model,0.000001\n", month)
        proof.same("differs-told", done.returncode, 1, "a model that was never asked")
        for text in ("model,amount\nx,1\n", f"model,cost_usd\n{MODEL},much\n"):
            done = _reconciled(world, text, month)
            proof.holds("differs-told", done.returncode == 2 and "cost_usd" in done.stderr, done.stderr)


def _reconciled(world: World, invoice: str, month: str) -> Any:
    file = world.config.parent / "invoice.csv"
    file.write_text(invoice)
    return world.command("reconcile", str(file), "--month", month)
