"""Gates 3 and 10 for embeddings: no way to a model is metered, bounded or redacted less than an agent's is."""

import time
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import httpx2
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.personal_data import HARMLESS, PERSONAL
from gates.rig.provider import Answer, Script, fault, says, status
from gates.rig.service import wait_for
from gates.rig.vectors import NAME, USD_PER_MTOK, catalogue, vectors, without_usage
from gates.rig.world import World

PATH = "/v1/embeddings"
USD_PER_TOKEN = Decimal(USD_PER_MTOK) / 1_000_000
OPERATOR = ["platform_operator"]


TWICE = catalogue("attempts = 2\nfirst_wait_ms = 20\nbreaker_faults = 1000\n")
ONCE = catalogue("attempts = 1\nbreaker_faults = 1000\n")


def _asked(
    world: World, who: Person, script: Script, *texts: str, headers: dict[str, str] | None = None
) -> httpx2.Response:
    said = {"model": NAME, "input": [script.task(), *texts]}
    return world.service.call(who, "POST", PATH, json=said, headers=headers or {})


def _code(answer: httpx2.Response) -> str:
    return str(answer.json().get("error", {}).get("code", ""))


MODES: dict[str, tuple[Answer, ...]] = {
    "vectors": (vectors,),
    "the second attempt": (status(503), vectors),
    "an error": (status(500),),
    "busy": (status(429),),
    "not allowed": (status(401),),
    "no usage": (without_usage,),
    "no JSON": (Reply(raw=b'{"object": "li', usage=None),),
    "no vectors": (Reply(raw=b'{"data": []}', usage=None),),
    "a connection that breaks": (replace(fault("die"), text="word " * 40, usage=None),),
    "silence": (replace(fault("hang", seconds=8), usage=None),),
    "drops": (replace(fault("drip", seconds=8), usage=None),),
}
FREE = {"an error", "busy", "not allowed"}


@control("CST-02", cases=3 * len(MODES) + 2)
@pytest.mark.timeout(1_200)
def test_every_request_for_embeddings_is_metered(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=TWICE, MODEL_TIMEOUT_MS="1500") as world:
        with proof.positive("a text has a vector"):
            [who] = world.people(["probe_chatter"])
            assert len(_asked(world, who, world.model.script(vectors)).json()["data"]) == 1
        for mode, answers in MODES.items():
            [who] = world.people(["probe_chatter"])
            script = world.model.script(*answers)
            _asked(world, who, script)
            usage = world.service.call(who, "GET", "/v1/usage").json()
            proof.same("every-request-metered", usage["model_calls"], len(script.seen), mode)
            items = world.service.call(who, "GET", "/v1/budgets").json()["items"]
            held = {item["held_usd"] for item in items if item["scope"] == "tenant"}
            proof.same("nothing-left-held", {Decimal(amount) for amount in held}, {Decimal(0)}, mode)
            billed = sum(each.input_tokens for each in script.seen)
            least = 0 if mode in FREE else billed or len(script.task())
            spent = Decimal(usage["cost_usd"])
            proof.holds("tokens-agree", spent >= least * USD_PER_TOKEN, f"{mode}: {spent} for {least} tokens")
            if mode in {"vectors", "the second attempt"}:
                proof.same("tokens-agree", spent, billed * USD_PER_TOKEN, mode)


@control("CST-03", cases=9)
def test_every_request_for_embeddings_ends_in_time(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=ONCE, MODEL_TIMEOUT_MS="1000") as world:
        [who] = world.people(["probe_chatter"])
        with proof.positive("a quick answer arrives"):
            assert _asked(world, who, world.model.script(vectors)).status_code == 200
        for slow in (fault("hang", seconds=8), fault("drip", seconds=8), replace(says("x"), delay=8)):
            script, where = world.model.script(slow), slow.fault or "late"
            began = time.monotonic()
            code = _code(_asked(world, who, script))
            proof.in_time("deadline", time.monotonic() - began, 2.5, f"{where}: {code} after")
            proof.same("deadline", code, "provider.timeout", where)
            wait_for(partial(_ended, script), 10)
            proof.holds("upstream-closed", script.seen[0].closed_early, where)


def _ended(script: Script) -> float:
    return script.seen[0].ended


@control("VAL-09", cases=len(PERSONAL))
def test_personal_data_in_texts_for_embeddings_stays_here(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=ONCE) as world:
        [who] = world.people(["probe_chatter"])
        with proof.positive("what is not personal reaches the provider as it is"):
            script = world.model.script(vectors)
            assert _asked(world, who, script, HARMLESS).status_code == 200
            assert HARMLESS in script.seen[0].raw.decode()
        for kind, value in PERSONAL.items():
            script = world.model.script(vectors)
            _asked(world, who, script, f"About {value}.", value)
            proof.holds("provider", value not in script.seen[0].raw.decode(), f"{kind} in a text for embeddings")


@control("CST-08", cases=12)
def test_an_embedding_given_again_is_free_and_nobody_else_s(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=ONCE) as world:
        [who, operator], [stranger] = world.people(["probe_chatter"], OPERATOR), world.people(["probe_chatter"])
        script = world.model.script(vectors)

        def ask(person: Person, *texts: str, **more: Any) -> tuple[httpx2.Response, int]:
            """The answer, and how many requests the provider has seen for it."""
            before = len(script.seen)
            answer = _asked(world, person, script, *texts, **more)
            return answer, len(script.seen) - before

        with proof.positive("a text has a vector"):
            first, seen = ask(who)
            assert (first.status_code, seen) == (200, 1)
        spent = world.spent(who)
        again, seen = ask(who)
        proof.same("free", (again.json()["data"], seen), (first.json()["data"], 0), "the same text again:")
        proof.same("free", (again.headers.get("x-cost-usd"), world.spent(who)), ("0.000000", spent))
        proof.holds("marked", "hit" in again.headers.get("cache-status", ""), again.headers)
        proof.holds("marked", again.headers.get("age", "").isdigit(), again.headers)
        told, seen = ask(stranger)
        proof.same("own-tenant-only", (seen, "cache-status" in told.headers), (1, False), "another tenant:")
        for what, more in {"another text": ("More.",), "two others": ("More.", "And more.")}.items():
            proof.same("exact", ask(who, *more)[1], 1, what)
        proof.same("exact", ask(who, headers={"Cache-Control": "no-cache"})[1], 1, "asked for anew:")
        for name in (f"tenant:{who.tenant_id}", "feature:embeddings", f"model:{NAME}", "runs"):
            body = {"state": "on", "reason": "a drill"}
            assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=body).status_code == 200
            proof.same("switches", _code(ask(who)[0]), "service.halted", name)
            world.service.call(operator, "PUT", f"/v1/switches/{name}", json={**body, "state": "off"})
