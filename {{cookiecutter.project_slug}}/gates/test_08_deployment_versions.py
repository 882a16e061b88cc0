"""Gate 8, deployment: which model and which prompt answered, and that a model which is another one is noticed."""

import json
from collections.abc import Callable
from dataclasses import replace

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.interfaces import CHAT, EMBEDDINGS, RESPONSES, Interface
from gates.rig.people import Person
from gates.rig.provider import Answer, Body, calls, says
from gates.rig.vectors import catalogue, vectors
from gates.rig.world import MODEL, ONE_ATTEMPT, World, final

DATED, OTHER = f"{MODEL}-2026-01-31", "another-model-3"
EVENT = "model.answered_as_another"
WRITE = calls("probe_write", {"text": "a note"}, "call_write")


def _vectors_of_another(body: Body) -> Reply:
    told = vectors(body)
    return replace(told, raw=json.dumps({**json.loads(told.raw or b""), "model": OTHER}).encode())


def _asked(world: World, who: Person, interface: Interface, answer: Answer, *, stream: bool) -> None:
    told = interface.ask(world, who, world.model.script(answer), stream=stream)
    assert (told.status, told.code) == (200, "")


def _counted(world: World) -> int:
    lines = world.service.operations("/metrics").text.splitlines()
    return int(sum(float(line.split()[-1]) for line in lines if line.startswith("ai_model_answered_as_another_total{")))


@control("DEP-08", cases=7)
def test_an_answer_of_another_model_is_noticed_however_it_was_asked_for(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=catalogue(ONE_ATTEMPT)) as world:
        [who] = world.people(["probe_reader", "probe_chatter"])

        def agent(answer: Reply) -> None:
            assert world.run(who, answer).state["state"] == "succeeded"

        def by(interface: Interface, *, stream: bool) -> Callable[[Reply], None]:
            def ask(answer: Reply) -> None:
                other = _vectors_of_another if answer.model == OTHER else vectors
                chosen: Answer = other if interface is EMBEDDINGS else answer
                _asked(world, who, interface, chosen, stream=stream)

            return ask

        ways = {"an agent": agent} | {
            f"{interface.path}, {'streamed' if stream else 'whole'}": by(interface, stream=stream)
            for interface in (CHAT, RESPONSES, EMBEDDINGS)
            for stream in interface.streams
        }
        with proof.positive("an answer of the model that was asked for is none of another"):
            for where, way in ways.items():
                for version in (MODEL, DATED):
                    way(replace(final() if where == "an agent" else says("Good day."), model=version))
            assert _counted(world) == 0
        for count, (where, way) in enumerate(ways.items(), 1):
            way(replace(final() if where == "an agent" else says("Good day."), model=OTHER))
            proof.same("drift-counted", _counted(world), count, where)
        told = [line for line in world.service.log.read_text().splitlines() if EVENT in line]
        proof.holds("drift-logged", told and OTHER in told[0], told)


@control("DEP-08", cases=3)
def test_a_run_names_the_prompt_that_version_tells(proof: Proof, world: World) -> None:
    who, approver = world.people(["probe_writer"], ["probe_approver"])
    version = world.service.operations("/version").json()
    with proof.positive("a write waits for a person"):
        ran = world.run(who, WRITE, final(), until=("waiting",))
        question = world.question(approver, ran)
    proof.same("on-record", ran.state["prompt_version"], version["prompts"]["probe"], "prompt of a run:")
    world.service.decide(approver, question)
    state = world.service.run_until(who, ran.id, "succeeded", "failed")
    proof.same("on-record", state["prompt_version"], version["prompts"]["probe"], "after the decision:")
    proof.holds("on-record", version["models"] and version["prices"], version)
