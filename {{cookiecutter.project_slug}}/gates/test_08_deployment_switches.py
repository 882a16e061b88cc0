"""Gate 8, deployment: a switch that is thrown once holds in every process, after a restart and without its store."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.chats import PATH
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.provider import says
from gates.rig.service import Service, running
from gates.rig.world import World

GONE_ON = (200, "")
HALTED = (503, "service.halted")


@contextmanager
def _replicas(
    new_world: NewWorld, database_url: str, folder: Path, count: int
) -> Iterator[tuple[World, list[Service]]]:
    """A world whose service runs in so many processes on one database."""
    with ExitStack() as stack:
        world = stack.enter_context(new_world(database_url))
        first = world.service
        more = [
            stack.enter_context(running(database_url, folder, first.module, **first.environment))
            for _ in range(count - 1)
        ]
        yield world, [first, *more]


def _asked(world: World, service: Service, who: Person) -> tuple[tuple[int, str], int]:
    """How a chat ended, and how many requests the provider saw of it."""
    script = world.model.script(says("Good day."))
    said = {"model": "standard", "messages": [{"role": "user", "content": script.task()}]}
    answer = service.call(who, "POST", PATH, json=said)
    return (answer.status_code, answer.json().get("error", {}).get("code", "")), len(script.seen)


def _held(proof: Proof, assertion: str, world: World, services: Sequence[Service], who: Person, where: str) -> None:
    for number, service in enumerate(services, 1):
        told, seen = _asked(world, service, who)
        proof.same(assertion, (told, seen), (HALTED, 0), f"{where}, process {number}:")


@control("DEP-09", cases=19)
def test_a_switch_holds_in_every_process_and_after_a_restart(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    with _replicas(new_world, new_postgres(), tmp_path, 2) as (world, services):
        who, operator = world.people(["probe_chatter"], ["platform_operator"])
        with proof.positive("with every switch off each process answers"):
            assert [_asked(world, service, who) for service in services] == [(GONE_ON, 1)] * 2
        for thrower, name in enumerate(("runs", "feature:chat")):  # by each process once
            body = {"state": "on", "reason": "a drill"}
            answer = services[thrower].call(operator, "PUT", f"/v1/switches/{name}", json=body)
            assert answer.status_code == 200
            _held(proof, "reaches-all", world, services, who, name)
            for service in services:
                service.stop()
                service.start()
            _held(proof, "survives-restart", world, services, who, f"{name}, after a restart")
            services[thrower].kill()
            services[thrower].start()
            _held(proof, "survives-restart", world, services, who, f"{name}, after a crash")
            services[1 - thrower].call(operator, "PUT", f"/v1/switches/{name}", json={**body, "state": "off"})
            for number, service in enumerate(services, 1):
                proof.same("reaches-all", _asked(world, service, who)[0], GONE_ON, f"{name} off, process {number}:")
    _without_store(proof, new_world)


def _without_store(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [who] = world.people(["probe_chatter"])
        with world.broken("switches"):
            (status, code), seen = _asked(world, world.service, who)
            proof.holds("closed-without-store", status >= 500 and code, f"answered {status}")
            proof.same("closed-without-store", seen, 0, "requests at the provider, while nobody knows of switches:")
        proof.same("closed-without-store", _asked(world, world.service, who), (GONE_ON, 1), "once it is back:")
