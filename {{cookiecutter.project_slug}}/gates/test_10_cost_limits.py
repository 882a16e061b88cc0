"""Gate 10, cost: a run has an end, whatever its model, its delegates and its loops do."""

import time
from decimal import Decimal

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.provider import Script, calls, fault
from gates.rig.service import wait_for
from gates.rig.world import Ran, World, final

MODEL_CALLS, TOOL_CALLS, SECONDS = 8, 12, 4
LIMITS = {
    "RUN_MAX_MODEL_CALLS": str(MODEL_CALLS), "RUN_MAX_TOOL_CALLS": str(TOOL_CALLS), "RUN_TIMEOUT_S": str(SECONDS),
}  # fmt: skip


def _look(number: int) -> Reply:
    return calls("probe_lookup", {"query": f"q{number}"}, f"call_{number}")


def _crowd(first: int, count: int) -> Reply:
    """Many calls in one breath."""
    each = range(first, first + count)
    return Reply(calls=tuple((f"call_{n}", "probe_lookup", f'{{"query": "q{n}"}}') for n in each))


def _is_limited(proof: Proof, where: str, ran: Ran) -> None:
    proof.same("typed", (ran.state["state"], ran.state["outcome"]), ("failed", "limit"), where)


@control("CST-05", cases=12)
def test_a_run_that_would_not_end_is_ended(proof: Proof, new_world: NewWorld) -> None:
    with new_world(**LIMITS) as world:
        [who] = world.people(["hazard_runner"])
        with proof.positive("a run of several steps inside its limits succeeds"):
            assert world.run(who, _look(1), _look(2), final(), feature="hazard").state["state"] == "succeeded"
        endless = world.run(who, *map(_look, range(30)), feature="hazard")
        _is_limited(proof, "endless steps", endless)
        proof.same("model-calls", len(endless.script.seen), MODEL_CALLS)
        crowd = world.run(who, _crowd(0, 7), _crowd(7, 30), feature="hazard")
        proof.holds("tool-calls", len(world.effects_of(crowd)) <= TOOL_CALLS, len(world.effects_of(crowd)))
        _is_limited(proof, "a crowd of calls", crowd)
        began = time.monotonic()
        slow = world.run(who, calls("hazard_slow", {"query": "a"}), final(), feature="hazard")
        proof.in_time("time", time.monotonic() - began, SECONDS + 3)
        _is_limited(proof, "a slow tool", slow)
        cost = Decimal("0.000300")
        body = {"limits": {"cost_usd": f"{cost:.6f}"}}
        dear = world.run(
            who, *(Reply(calls=_look(n).calls, usage=None) for n in range(30)), feature="hazard", body=body
        )
        spent = Decimal(dear.state["usage"]["cost_usd"])
        proof.holds("money", 0 < spent <= cost, f"${spent} of ${cost}")
        _is_limited(proof, "a dear run", dear)
        own = {"limits": {"model_calls": 2}}
        narrow = world.run(who, *map(_look, range(30)), feature="hazard", body=own)
        proof.same("model-calls", len(narrow.script.seen), 2, "a narrower limit of the caller's own:")
        wide = world.start(who, final(), body={"limits": {"model_calls": MODEL_CALLS + 1}})
        proof.same("model-calls", wide.answer.status_code, 422, "a wider one")
        _waiting_does_not_refill(proof, world)


def _waiting_does_not_refill(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    writes = [calls("probe_write", {"text": f"t{n}"}, f"call_{n}") for n in range(30)]
    ran = world.run(writer, *writes, until=("waiting",))
    for _ in range(MODEL_CALLS + 2):
        world.settled(writer, ran, ("waiting", "succeeded", "failed"))
        if ran.state["state"] != "waiting":
            break
        assert world.service.decide(approver, world.question(approver, ran)).status_code == 200
        wait_for(lambda: world.service.call(writer, "GET", f"/v1/runs/{ran.id}").json()["state"] != "queued")
    proof.same("model-calls", len(ran.script.seen), MODEL_CALLS, "approvals in between do not refill the limit:")
    _is_limited(proof, "steps over many segments", world.settled(writer, ran))


@control("CST-05", cases=12)
def test_going_in_circles_is_noticed(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [who] = world.people(["hazard_runner"])
        with proof.positive("the same question may be asked again, a few times"):
            again = [calls("probe_lookup", {"query": "same"}, f"call_{n}") for n in range(3)]
            assert world.run(who, *again, final(), feature="hazard").state["state"] == "succeeded"
        rounds: dict[str, tuple[str, ...]] = {
            "one call over and over": ("a",), "two in turns": ("a", "b"), "three in turns": ("a", "b", "c"),
        }  # fmt: skip
        for what, period in rounds.items():
            script = [calls("probe_lookup", {"query": period[n % len(period)]}, f"call_{n}") for n in range(30)]
            ran = world.run(who, *script, feature="hazard")
            proof.holds("loops", len(ran.script.seen) <= max(4, 3 * len(period)), f"{what}: {len(ran.script.seen)}")
            proof.holds("loops", len(world.effects_of(ran)) <= 3 * len(period), f"{what}: effects")
            _is_limited(proof, what, ran)
            proof.holds("loops", "repeats" in ran.state["error"]["detail"], ran.state["error"])


@control("CST-05", cases=11)
def test_delegates_share_what_their_run_has(proof: Proof, new_world: NewWorld) -> None:
    with new_world(**LIMITS) as world:
        who, admin = world.people(["hazard_runner"], ["probe_admin"])

        def asks(number: int, child: Script) -> Reply:
            return calls("ask_scout", {"task": child.task(f"question {number}")}, f"ask_{number}")

        with proof.positive("a delegate looks something up and answers"):
            child = world.model.script(_look(1), final("found"))
            ran = world.run(who, asks(0, child), final(), feature="hazard")
            assert [effect.tool for effect in world.effects_of(ran)] == ["probe_lookup"]
            assert "found" in str(ran.script.requests[-1]["messages"][-1])
        child = world.model.script(*map(_look, range(30)))
        ran = world.run(who, asks(0, child), feature="hazard")
        together = len(ran.script.seen) + len(child.seen)
        proof.same("children-share", together, MODEL_CALLS, "requests of run and delegate together")
        _is_limited(proof, "a delegate that does not end", ran)
        children = [world.model.script(_look(n), final(f"answer {n}")) for n in range(20)]
        ran = world.run(who, *(asks(n, child) for n, child in enumerate(children)), feature="hazard")
        _is_limited(proof, "one delegate after the other", ran)
        together = len(ran.script.seen) + sum(len(child.seen) for child in children)
        proof.same("children-share", together, MODEL_CALLS, "requests of run and delegates together")
        crowds = [world.model.script(_crowd(10 * n, 7), final(f"answer {n}")) for n in range(3)]
        ran = world.run(who, *(asks(n, child) for n, child in enumerate(crowds)), feature="hazard")
        looked = [effect for effect in world.effects_of(ran) if effect.tool == "probe_lookup"]
        proof.holds("children-share", len(looked) <= TOOL_CALLS, f"{len(looked)} calls of delegates")
        before, cost = world.spent(admin), Decimal("0.000400")
        greedy = world.model.script(*(Reply(calls=_look(n).calls, usage=None) for n in range(30)))
        ran = world.run(who, asks(0, greedy), feature="hazard", body={"limits": {"cost_usd": f"{cost:.6f}"}})
        _is_limited(proof, "a delegate that spends", ran)
        proof.holds("children-share", 0 < world.spent(admin) - before <= cost, world.spent(admin) - before)
        hanging = world.model.script(fault("hang"))
        began = time.monotonic()
        ran = world.run(who, asks(0, hanging), feature="hazard", body={"limits": {"duration_s": 2}})
        _is_limited(proof, "a delegate that takes its time", ran)
        proof.in_time("children-share", time.monotonic() - began, 6, "a delegate has time of its own:")
        deepest = world.model.script(_look(1), final("deep"))
        middle = world.model.script(calls("ask_deep_scout", {"task": deepest.task("q")}, "ask_deep"), final("middle"))
        ran = world.run(who, asks(0, middle), final(), feature="hazard")
        proof.same("depth", ran.state["state"], "succeeded", "two levels are allowed:")
        deeper = world.model.script(calls("ask_scout", {"task": "once more"}, "ask_more"), final("deep"))
        middle = world.model.script(calls("ask_deep_scout", {"task": deeper.task("q")}, "ask_deep"), final("middle"))
        ran = world.run(who, asks(0, middle), final(), feature="hazard")
        asked = world.sql("SELECT tool FROM tool_calls WHERE run_id = ? AND state = 'done'", ran.id)
        proof.same("depth", sorted(name for (name,) in asked), ["ask_deep_scout", "ask_scout"], "a third level:")
