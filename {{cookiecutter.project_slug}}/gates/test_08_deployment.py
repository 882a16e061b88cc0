"""Gate 8, deployment: what becomes of work under way when its process is replaced."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Body, calls
from gates.rig.service import wait_for
from gates.rig.workers import Worker, Workers, slot_watched, workers
from gates.rig.world import ALLOW_EVERYTHING, Ran, World, final

RUNS = 100
STEPS = ("hazard_book", "hazard_count", "hazard_count", "hazard_count")
GRACE_S = 30  # far more than a call takes: what cannot end within it has not been asked to
ENDS_WITHIN_S = 90  # of the platform, before it kills
SETTINGS = {
    "EMBEDDED_WORKER": "false", "SHUTDOWN_GRACE_S": str(GRACE_S), "WORKER_CONCURRENCY": "8", "LOG_LEVEL": "warning",
    "DATABASE_TIMEOUT_S": "60",
}  # fmt: skip


@dataclass
class Fleet:
    """A web process, workers beside it, and runs whose tools may not be started twice."""

    world: World
    workers: Workers
    runner: Person

    def start(self, steps: tuple[str, ...] = STEPS) -> Ran:
        replies = [calls(tool, {"text": f"part {n}"}, f"call_{n}") for n, tool in enumerate(steps)]

        def answer(body: Body) -> Reply:
            said = sum(message["role"] == "assistant" for message in body["messages"])
            chosen: Reply = [*replies, final()][min(said, len(replies))]
            return chosen

        return self.world.start(self.runner, answer, feature="hazard")

    def until_begun(self, ran: Ran) -> None:
        wait_for(lambda: self.world.effects.of(ran.answer.json()["id"]), 60)

    def state(self, ran: Ran) -> str:
        return str(self.world.service.call(self.runner, "GET", f"/v1/runs/{ran.answer.json()['id']}").json()["state"])

    def ended(self, ran: Ran, seconds: float = 120) -> dict[str, Any]:
        states = ("succeeded", "failed", "cancelled")
        path = f"/v1/runs/{ran.answer.json()['id']}"

        def look() -> dict[str, Any] | None:
            run: dict[str, Any] = self.world.service.call(self.runner, "GET", path).json()
            return run if run["state"] in states else None

        return wait_for(look, seconds)

    def parts(self, ran: Ran) -> Counter[tuple[str, str]]:
        """How often each part of each call has happened at the back end."""
        effects = self.world.effects.of(ran.answer.json()["id"])
        return Counter((effect.idempotency_key, effect.arguments["at"]) for effect in effects)

    def crash_starts(self) -> list[tuple[Any, ...]]:
        """Segments on whose record a start too many stands, as after a crash."""
        return self.world.sql("SELECT id, starts FROM runs WHERE starts > 1")

    def unknown(self) -> list[tuple[Any, ...]]:
        return self.world.sql("SELECT run_id, call_id FROM tool_calls WHERE state NOT IN ('done')")


@contextmanager
def _fleet(new_world: NewWorld, database_url: str, **settings: str) -> Iterator[Fleet]:
    with new_world(database_url, policy=ALLOW_EVERYTHING, **{**SETTINGS, **settings}) as world:
        [runner] = world.people(["hazard_runner"])
        with workers(world.service) as started:
            yield Fleet(world, started, runner)


@pytest.mark.timeout(600)
@control("DEP-04", cases=216, slow=True)
def test_a_rolling_restart_loses_nothing_and_does_nothing_twice(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with _fleet(new_world, new_postgres()) as fleet:
        old = [fleet.workers.start(), fleet.workers.start()]
        with proof.positive("undisturbed, a run does each of its parts once"):
            ran = fleet.start()
            assert fleet.ended(ran)["state"] == "succeeded"
            assert sorted(fleet.parts(ran).values()) == [1] * 2 * len(STEPS)
        runs = [fleet.start() for _ in range(RUNS)]
        # Once as a platform does it, so that what is under way ends; once in a hurry, so that it is handed on.
        for round_number, signals in enumerate((1, 2, 2)):
            old = [_replaced(proof, fleet, worker, signals, f"round {round_number}:") for worker in old]
        states = Counter(fleet.ended(ran)["state"] for ran in runs)
        proof.same("nothing-lost", states, {"succeeded": RUNS}, "runs by their end:")
        for ran in runs:
            _each_part_once(proof, fleet, ran)
        proof.same("no-unknown", fleet.unknown(), [], "calls without an outcome:")
        proof.same("no-crash", fleet.crash_starts(), [], "segments that count as started before:")
        handed_on = fleet.world.service.log.read_text().count("worker.handed_back")
        proof.holds("handed-on", handed_on, "no worker had anything to hand on: nothing was shown")


def _replaced(proof: Proof, fleet: Fleet, worker: Worker, signals: int, where: str) -> Worker:
    """As a deployment replaces a worker: the next one is started, and the old one is asked to end."""
    replacement = fleet.workers.launch()
    worker.ask_to_end(times=signals)
    proof.holds("in-grace", worker.ended(ENDS_WITHIN_S), f"{where} it had to be killed")
    proof.same("in-grace", worker.process.returncode, 0, f"{where} exit code")
    wait_for(replacement.is_ready, 60)
    return replacement


def _each_part_once(proof: Proof, fleet: Fleet, ran: Ran) -> None:
    parts = fleet.parts(ran)
    proof.same("nothing-twice", sorted(parts.values()), [1] * 2 * len(STEPS), f"{parts}:")
    proof.same("nothing-twice", len(ran.script.seen), len(STEPS) + 1, "requests at the provider")


@pytest.mark.timeout(300)
@control("DEP-04", cases=10)
def test_a_worker_keeps_its_slot_until_its_work_has_ended(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with _fleet(new_world, new_postgres(), RIG_PART_SECONDS="4") as fleet:
        with proof.positive("a worker's slot is free once nobody has it"), _slot(fleet) as free:
            wait_for(lambda: free)
        worker = fleet.workers.start()
        ran = fleet.start(("hazard_book", "hazard_count"))
        fleet.until_begun(ran)
        with _slot(fleet) as free:
            worker.ask_to_end(times=2)
            proof.holds("in-grace", worker.ended(ENDS_WITHIN_S), "it had to be killed")
            wait_for(lambda: free)
        booked = [e for e in fleet.world.effects.of(ran.answer.json()["id"]) if e.tool == "hazard_book"]
        proof.same("slot-last", [effect.arguments["at"] for effect in booked], ["start", "end"], "at work:")
        proof.holds("slot-last", free[0] > booked[-1].arrived, f"free {booked[-1].arrived - free[0]:.1f} s too early")
        # Nothing new was started, nothing is unknown, and the next worker goes on at once and not after a sweep.
        proof.same("nothing-twice", len(ran.script.seen), 1, "requests at the provider by then:")
        proof.same("no-unknown", fleet.unknown(), [], "calls without an outcome:")
        [(queued,)] = fleet.world.sql("SELECT status FROM dbos.workflow_status WHERE status <> 'SUCCESS'")
        proof.same("handed-on", queued, "ENQUEUED", "the segment in the engine's queue:")
        fleet.workers.start()
        proof.same("nothing-lost", fleet.ended(ran)["state"], "succeeded")
        proof.same("nothing-twice", sorted(fleet.parts(ran).values()), [1] * 4, "parts of its calls:")
        proof.same("nothing-twice", len(ran.script.seen), 3, "requests at the provider:")
        proof.same("no-crash", fleet.crash_starts(), [], "segments that count as started before:")


@contextmanager
def _slot(fleet: Fleet) -> Iterator[list[float]]:
    with slot_watched(fleet.world.service.database_url, "worker-0") as free:
        yield free


@pytest.mark.timeout(300)
@control("DEP-04", cases=8)
def test_a_tool_that_outlasts_the_grace_is_the_only_unknown(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with _fleet(new_world, new_postgres(), RIG_PART_SECONDS="25", SHUTDOWN_GRACE_S="4") as fleet:
        worker = fleet.workers.start()
        with proof.positive("a worker without work ends"):
            assert worker.is_ready()
            worker.ask_to_end()
            assert worker.ended(ENDS_WITHIN_S)
        for how in ("is left to itself", "is killed"):
            worker, ran = fleet.workers.start(), fleet.start(("hazard_book",))
            fleet.until_begun(ran)
            worker.ask_to_end()
            if how == "is killed":
                worker.process.kill()
            proof.holds("in-grace", worker.ended(ENDS_WITHIN_S), f"{how}: it had to be killed")
            successor = fleet.workers.start()
            proof.same("nothing-lost", fleet.ended(ran)["state"], "succeeded", how)
            successor.ask_to_end()
            assert successor.ended(ENDS_WITHIN_S)
            begun = [part for part in fleet.parts(ran) if part[1] == "start"]
            proof.same("nothing-twice", [fleet.parts(ran)[part] for part in begun], [1], f"{how}: starts of the call")
            told = fleet.world.sql("SELECT state FROM tool_calls WHERE run_id = ?", ran.answer.json()["id"])
            proof.same("unknown-shown", told, [("unknown",)], how)
