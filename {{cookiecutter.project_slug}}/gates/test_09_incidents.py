"""Gate 9, monitoring and incidents: what whoever is on call can stop, how soon it stops, and what goes on."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import hazard
from gates.rig.chats import Chatted, asked_chat
from gates.rig.people import Person
from gates.rig.provider import calls, fault
from gates.rig.service import running, wait_for
from gates.rig.world import MODEL, Ran, World, final

OPERATOR = ["platform_operator"]
WITHIN = 10.0  # seconds, from the switch to the end of what it stops
LOOK = calls("probe_lookup", {"query": "a"}, "call_look")
WRITE = calls("probe_write", {"text": "a note"}, "call_write")
STATUS = calls("hazard_status", {"page": "/"}, "call_status")
SLOW = calls("hazard_slow", {"query": "a"}, "call_slow")


@contextmanager
def _silent() -> Iterator[str]:
    """A place that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def _world(new_world: NewWorld) -> Iterator[World]:
    with _silent() as place:
        settings = {hazard.STATUS: place, "EGRESS_ALLOW": f'["{place}"]', "MODEL_TIMEOUT_MS": "30000"}
        with new_world(**settings) as world:
            yield world


def _throw(world: World, name: str) -> None:
    """By a process other than the one that serves, as a command does."""
    world.service.inside(lambda runtime: runtime.board.throw(name, "a drill", "proof"))


def _release(world: World, operator: Person, name: str) -> None:
    body = {"state": "off", "reason": "the drill is over"}
    assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200


def _code(ran: Ran | Chatted) -> str:
    if isinstance(ran, Chatted):
        return ran.code
    if ran.answer.status_code != 202:
        return str(ran.answer.json()["code"])
    return str((ran.state.get("error") or {}).get("code", ran.state.get("state")))


@pytest.mark.timeout(2_800)
@control("MON-05", cases=53)
def test_every_switch_stops_what_it_names_until_it_is_released(proof: Proof, new_world: NewWorld) -> None:
    with _world(new_world) as world:
        who, operator = world.people(["hazard_runner", "probe_chatter"], OPERATOR)
        [other] = world.people(["hazard_runner", "probe_chatter"])
        stopped: dict[str, Callable[[Person], Ran | Chatted]] = {
            "runs": lambda by: world.run(by, final()),
            f"tenant:{who.tenant_id}": lambda by: world.run(by, final()),
            "feature:hazard": lambda by: world.run(by, final(), feature="hazard"),
            "feature:chat": lambda by: asked_chat(world, by, world.model.script(final())),
            f"model:{MODEL}": lambda by: world.run(by, final()),
            "tool:probe_lookup": lambda by: world.run(by, LOOK, final()),
            "effect:read": lambda by: world.run(by, LOOK, final()),
            "effect:write": lambda by: world.run(by, WRITE, final(), until=("waiting", "failed", "succeeded")),
            "read_only": lambda by: world.run(by, WRITE, final(), until=("waiting", "failed", "succeeded")),
            "egress": lambda by: world.run(by, STATUS, final(), feature="hazard"),
        }
        goes_on: dict[str, tuple[Person, Callable[[Person], Ran | Chatted]]] = {
            f"tenant:{who.tenant_id}": (other, stopped["runs"]),
            "feature:hazard": (who, stopped["runs"]),
            "feature:chat": (who, stopped["runs"]),
            "tool:probe_lookup": (who, stopped["runs"]),
            "effect:read": (who, stopped["effect:write"]),
            "effect:write": (who, stopped["tool:probe_lookup"]),
            "read_only": (who, stopped["tool:probe_lookup"]),
            "egress": (who, stopped["tool:probe_lookup"]),
        }
        usual = {name: _outcome(attempt(who)) for name, attempt in stopped.items()}
        with proof.positive("with every switch off all of it works"):
            assert set(usual.values()) <= {"succeeded", "waiting", "answered"}, usual
        for name, attempt in stopped.items():
            before = len(world.model.ledger), len(world.effects.happened)
            _throw(world, name)
            proof.same("stops-new", _code(attempt(who)), "service.halted", name)
            if name in {"runs", f"tenant:{who.tenant_id}", "feature:hazard", "feature:chat", f"model:{MODEL}"}:
                proof.same("stops-new", len(world.model.ledger), before[0], f"{name}: requests at the provider")
            proof.same("stops-new", len(world.effects.happened), before[1], f"{name}: effects")
            if name in goes_on:
                by, another = goes_on[name]
                proof.holds("nothing-else", _outcome(another(by)) in {"succeeded", "waiting"}, f"{name} is on")
            _release(world, operator, name)
            proof.same("reversible", _outcome(attempt(who)), usual[name], name)
            recorded = [row[0] for row in world.sql(_ON_RECORD, f"switch:{name}")]
            proof.same("audited", recorded, ["switch.on", "switch.off"], name)


_ON_RECORD = "SELECT action FROM audit_events WHERE tenant_id = 'platform' AND subject = ? ORDER BY sequence"


def _outcome(ran: Ran | Chatted) -> str:
    if isinstance(ran, Chatted):
        return "answered" if ran.status == 200 and not ran.code else ran.code
    return str(ran.state.get("state", ran.answer.status_code))


@pytest.mark.timeout(2_800)
@control("MON-05", cases=27)
def test_a_switch_stops_what_is_under_way(proof: Proof, new_world: NewWorld) -> None:
    with _world(new_world) as world:
        who, approver, operator = world.people(["hazard_runner", "probe_chatter"], ["probe_approver"], OPERATOR)
        silence = fault("hang", seconds=25)
        with proof.positive("what takes long gets its time"):
            assert world.run(who, SLOW, final(), feature="hazard").state["state"] == "succeeded"
        for name in ("runs", f"tenant:{who.tenant_id}", "feature:hazard", f"model:{MODEL}"):
            ran = world.start(who, silence, feature="hazard")
            _hung_up(proof, world, who, ran, operator, name)
        for name in ("tool:hazard_slow", "effect:read"):
            ran = world.start(who, SLOW, final(), feature="hazard")
            _arrived(world, ran, "hazard_slow")
            _stopped(proof, world, who, ran, operator, name)
            time.sleep(hazard.SLOW_SECONDS)
            told = [effect.arguments["at"] for effect in world.effects_of(ran) if effect.tool == "hazard_slow"]
            proof.same("under-way", told, ["start"], f"{name}: what the tool did")
        ran = world.start(who, STATUS, final(), feature="hazard")
        wait_for(lambda: _calls(world, ran) == ["started"])
        _stopped(proof, world, who, ran, operator, "egress")
        _stopped_write(proof, world, who, approver, operator)
        for stream in (False, True):
            _stopped_chat(proof, world, who, operator, stream=stream)


def _hung_up(proof: Proof, world: World, who: Person, ran: Ran, operator: Person, name: str) -> None:
    wait_for(lambda: ran.script.seen)
    _stopped(proof, world, who, ran, operator, name)
    wait_for(lambda: ran.script.seen[0].ended)
    proof.holds("under-way", ran.script.seen[0].closed_early, f"{name}: the provider still had the request")


def _stopped(proof: Proof, world: World, who: Person, ran: Ran, operator: Person, name: str) -> None:
    _throw(world, name)
    run_id = ran.answer.json()["id"]

    def ended() -> bool:
        ran.state = world.service.call(who, "GET", f"/v1/runs/{run_id}").json()
        return ran.state["state"] in {"failed", "succeeded"}

    proof.soon("in-time", ended, WITHIN, name)
    proof.same("under-way", _code(ran), "service.halted", name)
    _release(world, operator, name)


def _arrived(world: World, ran: Ran, tool: str) -> None:
    run_id = ran.answer.json()["id"]
    wait_for(lambda: [effect for effect in world.effects.of(run_id) if effect.tool == tool])


def _calls(world: World, ran: Ran) -> list[str]:
    query = "SELECT state FROM tool_calls WHERE run_id = ?"
    return [row[0] for row in world.sql(query, ran.answer.json()["id"])]


def _stopped_write(proof: Proof, world: World, who: Person, approver: Person, operator: Person) -> None:
    """What was under way may have happened: it is put on record as not known, and nobody does it again."""
    ran = world.run(who, WRITE, final(), until=("waiting", "failed"))
    world.effects.on_arrival = lambda _: time.sleep(4)
    try:
        assert world.service.decide(approver, world.question(approver, ran)).status_code == 200
        wait_for(lambda: _calls(world, ran) == ["started"])
        _stopped(proof, world, who, ran, operator, "read_only")
    finally:
        world.effects.on_arrival = None
    proof.same("under-way", _calls(world, ran), ["unknown"], "a write that was stopped:")


def _stopped_chat(proof: Proof, world: World, who: Person, operator: Person, *, stream: bool) -> None:
    script = world.model.script(fault("drip" if stream else "hang", seconds=25))
    answers: list[Chatted] = []
    client = Thread(target=lambda: answers.append(asked_chat(world, who, script, stream=stream)))
    client.start()
    wait_for(lambda: script.seen)
    _throw(world, "feature:chat")
    where, began = f"a chat, streamed: {stream}", time.monotonic()
    client.join()
    proof.in_time("in-time", time.monotonic() - began, WITHIN, where)
    proof.same("under-way", answers[0].code, "service.halted", where)
    _release(world, operator, "feature:chat")


@control("MON-05", cases=3)
def test_a_switch_outlives_a_crash_and_holds_at_every_replica(
    proof: Proof, new_world: NewWorld, tmp_path: Path
) -> None:
    with new_world() as world:
        who, operator = world.people(["hazard_runner"], OPERATOR)
        with proof.positive("a run succeeds"):
            assert world.run(who, final()).state["state"] == "succeeded"
        done = world.command("switch", "on", "runs", "--reason", "a drill")
        assert done.returncode == 0, done.stderr
        proof.same("survives", _code(world.start(who, final())), "service.halted", "thrown by a command:")
        world.service.kill()
        world.service.start()
        proof.same("survives", _code(world.start(who, final())), "service.halted", "after a crash and a start:")
        with running(world.service.database_url, tmp_path, "gates.rig.serve", **world.service.environment) as replica:
            answer = replica.start_run(who, world.model.script(final()).task(), feature="probe")
            proof.same("survives", answer.status_code, 503, "at another replica:")
        _release(world, operator, "runs")
