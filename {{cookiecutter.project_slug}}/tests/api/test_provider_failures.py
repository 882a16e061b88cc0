"""What every kind of broken provider leads to: a failure with a name, in time, and a ledger that agrees with its own.

One table, for the three ways to a model: a chat, a streamed chat, a run of an agent. The provider of these tests keeps
an account of what it would bill; it charges for an answer that it was not able to deliver, as real ones do.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

import httpx2
import pytest

from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Script, fault, status
from gates.rig.world import World, final, opened

DEADLINE_S, AROUND_S = 1.0, 15.0  # what a call may take, and ten times what everything around it does
WAYS = ("chat", "stream", "run")


@dataclass(frozen=True)
class Case:
    reply: Reply
    code: str  # what the caller is told; empty: it is an answer
    booked: Literal["nothing", "as billed", "worst case"]
    of_run: str | None = None  # where an agent's is another one


CASES = {
    "429": Case(status(429), "provider.rate_limited", "nothing"),
    "429, no credit": Case(status(429, kind="insufficient_quota"), "provider.quota_exhausted", "nothing"),
    "500": Case(status(500), "provider.unavailable", "nothing"),
    "401": Case(status(401), "provider.auth_failed", "nothing"),
    "hangs": Case(fault("hang", seconds=60), "provider.timeout", "worst case"),
    "drips": Case(fault("drip", seconds=60), "provider.timeout", "worst case"),
    "dies midway": Case(replace(fault("die"), text="word " * 40), "provider.unavailable", "worst case"),
    "garbage": Case(
        replace(final(), raw=b'{"id": "x", "choi'), "model.output_invalid", "worst case", "provider.unavailable"
    ),
    "no usage": Case(replace(final(), usage=None), "", "worst case"),
    "another model's name": Case(replace(final(), model="something-else"), "", "as billed"),
}


@pytest.fixture(scope="module")
def world(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("failures")
    with opened(new_sqlite(), folder, MODEL_TIMEOUT_MS=str(round(DEADLINE_S * 1_000))) as made:
        yield made


def _told(world: World, who: Person, way: str, script: Script) -> str:
    """The code of what the caller is told, empty for an answer."""
    if way == "run":
        started = world.service.start_run(who, script.task(), feature="probe")
        run = world.service.run_until(who, started.json()["id"], "succeeded", "failed")
        return str((run["error"] or {}).get("code", ""))
    body = {"model": "standard", "stream": way == "stream", "messages": [{"role": "user", "content": script.task()}]}
    answer = world.service.call(who, "POST", "/v1/chat/completions", json=body)
    return _code(answer)


def _code(answer: httpx2.Response) -> str:
    """Of an error instead of an answer, or as the last event of a stream that had begun."""
    if answer.headers["content-type"].startswith("application/json"):
        return str(answer.json().get("error", {}).get("code", ""))
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return "" if events[-1] == "[DONE]" else str(json.loads(events[-1])["error"]["code"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", CASES)
def test_it_ends_with_a_name_in_time_and_both_ledgers_agree(world: World, name: str, way: str) -> None:
    case = CASES[name]
    [who] = world.people(["probe_reader", "probe_chatter"])
    script = world.model.script(case.reply)
    began = time.monotonic()
    expected = case.of_run if way == "run" and case.of_run is not None else case.code
    assert _told(world, who, way, script) == expected
    assert time.monotonic() - began < DEADLINE_S + AROUND_S
    usage = world.service.call(who, "GET", "/v1/usage").json()
    assert usage["model_calls"] == len(script.seen) == 1
    billed = sum((world.price((each.input_tokens, each.output_tokens)) for each in script.seen), Decimal(0))
    booked = Decimal(usage["cost_usd"])
    match case.booked:
        case "nothing":
            assert booked == billed == 0
        case "as billed":
            assert booked == billed.quantize(Decimal("0.000001"), "ROUND_CEILING") > 0
        case "worst case":
            assert booked >= billed
            assert booked > world.price((0, 900)) * Decimal("0.99")
    items = world.service.call(who, "GET", "/v1/budgets").json()["items"]
    assert all(Decimal(item["held_usd"]) == 0 for item in items)
