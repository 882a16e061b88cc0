"""A hundred chats at once under a cap of one dollar, over several processes of which one is killed in the middle."""

import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import httpx2

from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.provider import Script, says
from gates.rig.service import Service, running, wait_for
from gates.rig.world import ONE_ATTEMPT, World, opened

CALLS, CAP, USABLE = 100, Decimal("1.000000"), Decimal("0.95")
# A call of 900 tokens at worst costs about three cents.
ENTRY = '{ model = "probe-model-1", input_usd_per_mtok = "10", output_usd_per_mtok = "30", context_tokens = 128000 }'


def _catalogue() -> str:
    """Every tier of the product, at these prices."""
    providers = tomllib.loads((ROOT / "config" / "models.toml").read_text())["providers"]
    tiers = sorted({"standard", *(tier for tiers in providers.values() for tier in tiers)})
    lines = "\n".join(f"{tier} = {ENTRY}" for tier in tiers)
    return f"[resilience]\n{ONE_ATTEMPT}\n[providers.openai]\n{lines}\n"


@contextmanager
def _services(database_url: str, folder: Path, processes: int) -> Iterator[tuple[World, list[Service]]]:
    with ExitStack() as stack:
        world = stack.enter_context(opened(database_url, folder, catalogue=_catalogue()))
        first = world.service
        more = [
            stack.enter_context(running(database_url, folder, first.module, **first.environment))
            for _ in range(processes - 1)
        ]
        yield world, [first, *more]


def _call(service: Service, who: Person, script: Script) -> str:
    """How one call ended."""
    body = {"model": "standard", "temperature": 1, "messages": [{"role": "user", "content": script.task()}]}
    try:
        answer = service.call(who, "POST", "/v1/chat/completions", json=body)
    except httpx2.TransportError:
        return "lost"
    return "answered" if answer.status_code == 200 else str(answer.json()["error"]["code"])


def _budget(service: Service, who: Person) -> dict[str, Decimal]:
    items = service.call(who, "GET", "/v1/budgets").json()["items"]
    [budget] = [item for item in items if (item["scope"], item["period"]) == ("tenant", "month")]
    return {name: Decimal(budget[f"{name}_usd"]) for name in ("spent", "held", "limit")}


def _over_a_restart(world: World, services: list[Service]) -> None:
    who, admin, prober = *world.people(["probe_chatter"], ["probe_admin"]), *world.people(["probe_chatter"])
    script = world.model.script(replace(says("Yes."), usage=None, delay=0.4))  # each costs its worst case
    assert _call(services[-1], prober, script) == "answered"
    worst = _budget(services[-1], prober)["spent"]
    assert CAP % worst / CAP < 1 - USABLE, "a cap that whole calls can fill"
    body = {"scope": "tenant", "limit_usd": str(CAP)}
    assert services[-1].call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
    before = len(script.seen)

    with ThreadPoolExecutor(CALLS) as pool:
        ended = [pool.submit(_call, services[n % len(services)], who, script) for n in range(CALLS // 2)]
        wait_for(lambda: len(script.seen) - before >= 5)
        services[0].kill()
        services[0].start()
        ended += [pool.submit(_call, services[n % len(services)], who, script) for n in range(CALLS // 2)]
        outcomes = Counter(each.result() for each in ended)
    while _call(services[0], who, script) == "answered":  # whatever a killed process left unasked
        pass

    assert set(outcomes) <= {"answered", "lost", "budget.exceeded"}, outcomes
    reached, budget = len(script.seen) - before, _budget(services[0], who)
    assert CAP * USABLE <= budget["spent"] + budget["held"] <= CAP
    assert worst * reached <= CAP, f"{reached} calls of {worst}"
    # What the killed process had asked for and not settled is booked once its time is over; nothing is given back.
    world.clock.advance(timedelta(minutes=6))
    wait_for(lambda: _budget(services[0], who)["held"] == 0)
    spent = _budget(services[0], who)["spent"]
    assert worst * reached <= spent <= CAP
    assert _call(services[-1], who, script) == "budget.exceeded"


def test_on_sqlite(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    with _services(new_sqlite(), tmp_path, 1) as (world, services):
        _over_a_restart(world, services)


def test_on_postgresql_with_four_processes(new_postgres: NewDatabase, tmp_path: Path) -> None:
    with _services(new_postgres(), tmp_path, 4) as (world, services):
        _over_a_restart(world, services)
