"""Prototypes as people write them, unchanged but for the address and the key, at a provider and at this service.

One stands in docs/adopting-a-prototype.md, day 1; the others are in `prototypes/`: an agent around a stream, a script
that writes its JSON by hand, and an agent on the Responses interface.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import Body, Provider, calls, says
from gates.rig.service import Service, running

PAGE = (ROOT / "docs" / "adopting-a-prototype.md").read_text()
SCRIPTS = Path(__file__).parent / "prototypes"
STOCK = calls("check_stock", {"item": "umbrella"})
PRICE = calls("get_price", {"item": "umbrella"}, "call_2")
# What a message may have, each role by OpenAI's reference; `name` is not in it, because none is given.
TAKEN = {
    "system": {"content"}, "user": {"content"}, "assistant": {"content", "tool_calls"},
    "tool": {"content", "tool_call_id"},
}  # fmt: skip


@dataclass(frozen=True)
class Prototype:
    """A script, the tool calls that it prints, and what a provider that is scripted answers it."""

    name: str
    tools: tuple[str, ...]  # as they are printed
    calls_offline: int  # of the model
    answers: tuple[Reply, ...]
    said: tuple[str, ...]  # as it is printed, in front of that provider

    @property
    def script(self) -> Path:
        return SCRIPTS / f"{self.name}.py"


PROTOTYPES = [
    Prototype(
        "streaming_agent",
        ("tool: check_stock umbrella 4", "tool: get_price umbrella 19.90", "tool: check_stock raincoat 0"),
        calls_offline=5,
        answers=(
            replace(STOCK, calls=STOCK.calls + PRICE.calls),  # side by side
            says("Four are left, at 19.90 each."), calls("check_stock", {"item": "raincoat"}), says("None is left."),
        ),
        said=("answer: Four are left, at 19.90 each.", "answer: None is left."),
    ),
    Prototype(
        "plain_json",
        ("tool: read_note friday train to Porto",),
        calls_offline=3,
        answers=(says("Good morning."), calls("read_note", {"day": "friday"}), says("You take the train.")),
        said=("answer: Good morning.", "answer: You take the train.", "tokens: 51"),
    ),
    Prototype(
        "responses_agent",
        ("tool: get_balance savings 1200 EUR",),
        calls_offline=3,
        answers=(calls("get_balance", {"account": "savings"}), says("It is 1200 EUR."), says("You have 1200 EUR.")),
        said=("answer: It is 1200 EUR.", "last: You have 1200 EUR.", "tokens: 51"),
    ),
]  # fmt: skip
EACH = pytest.mark.parametrize("prototype", PROTOTYPES, ids=lambda prototype: prototype.name)


def _run(script: Path, address: str, key: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OPENAI_BASE_URL": address, "OPENAI_API_KEY": key}
    return subprocess.run(
        [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def _lines(done: subprocess.CompletedProcess[str], kind: str) -> list[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith(kind)]


FOUND = calls("find_order", {"number": "A-17"})


@pytest.fixture
def service(new_sqlite: NewDatabase, tmp_path: Path, model_provider: Provider) -> Iterator[Service]:
    environment = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-x", "MODEL_BASE_URL": model_provider.url}
    with running(new_sqlite(), tmp_path, **environment) as started:
        yield started


@pytest.fixture(scope="module")
def offline(new_sqlite: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(new_sqlite(), tmp_path_factory.mktemp("offline")) as started:
        yield started


def test_it_runs_here_as_it_ran_there_and_then_meets_its_budget(
    service: Service, model_provider: Provider, tmp_path: Path
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    script = tmp_path / "prototype.py"
    script.write_text(code)
    model_provider.answers(FOUND, says("It was sent on Monday; I wrote to ada@example.com."))
    before = _run(script, model_provider.url, "sk-of-the-prototype")
    assert before.returncode == 0, before.stderr
    assert "ada@example.com" in model_provider.ledger[0].raw.decode()

    who, admin = service.people(["member"], ["admin"])
    model_provider.answers(FOUND, says("It was sent on Monday; I wrote to [email-1]."))
    seen = len(model_provider.ledger)
    after = _run(script, f"{service.base_url}/v1", who.key)
    assert after.stdout == before.stdout, after.stderr
    assert all("ada@example.com" not in each.raw.decode() for each in model_provider.ledger[seen:])
    usage = service.call(who, "GET", "/v1/usage").json()
    assert [(row["feature"], row["model_calls"]) for row in usage["items"]] == [("chat", 2)]

    body = {"scope": "tenant", "limit_usd": "0.000001"}
    assert service.call(admin, "PUT", "/v1/budgets", json=body).status_code == 200
    refused = _run(script, f"{service.base_url}/v1", who.key)
    assert refused.returncode != 0
    assert "The AI budget of this tenant is used up; it resets at" in refused.stderr


@EACH
def test_with_the_offline_model_it_calls_its_tools_and_ends(offline: Service, prototype: Prototype) -> None:
    who, admin = offline.people(["member"], ["admin"])
    done = _run(prototype.script, f"{offline.base_url}/v1", who.key)
    assert _lines(done, "tool:") == list(prototype.tools)
    results = [line.split(" ", 3)[3] for line in prototype.tools]
    assert all(f": {result}\n" in done.stdout for result in results), done.stdout  # the answer tells of each
    used, recorded = _books(offline, who, admin)
    assert used["calls"] == prototype.calls_offline
    assert min(used.values()) > 0
    assert recorded == used


@EACH
def test_in_front_of_a_provider_it_does_what_it_did_there(
    service: Service, model_provider: Provider, prototype: Prototype
) -> None:
    who, admin = service.people(["member"], ["admin"])
    model_provider.answers(*prototype.answers)
    done = _run(prototype.script, f"{service.base_url}/v1", who.key)
    assert _lines(done, "tool:") == list(prototype.tools)
    assert [line for line in done.stdout.splitlines() if not line.startswith("tool:")] == list(prototype.said)
    bodies = model_provider.requests
    for body in bodies:
        _require_plain(body)
    answered = [message["content"] for message in bodies[-1]["messages"] if message["role"] == "tool"]
    assert answered == [line.split(" ", 3)[3] for line in prototype.tools]
    count = len(prototype.answers)
    used, recorded = _books(service, who, admin)
    assert used == {"calls": count, "input": 12 * count, "output": 5 * count}
    assert recorded == used

    if prototype.name != "responses_agent":  # which this provider does not speak
        model_provider.answers(*prototype.answers)
        assert _run(prototype.script, model_provider.url, "sk-of-the-prototype").stdout == done.stdout


def _require_plain(body: Body) -> None:
    """It has no null and nothing in its messages that a strict provider would refuse."""
    assert None not in {name: value for name, value in body.items() if name != "messages"}.values()
    for message in body["messages"]:
        optional = {"content"} if message.get("tool_calls") else set()  # null where there are calls instead
        empty = {name for name, value in message.items() if value is None}
        assert empty <= optional, message
        assert set(message) - {"role"} <= TAKEN[message["role"]], message
        assert message.get("tool_calls") != []
        for call in message.get("tool_calls") or ():
            assert set(call) == {"id", "type", "function"}, call
            assert call["type"] == "function"


def _books(service: Service, who: Person, admin: Person) -> tuple[Counter[str], Counter[str]]:
    """Model calls and tokens: what usage sums up, and what is on record of each call."""
    used: Counter[str] = Counter()
    for row in service.call(who, "GET", "/v1/usage").json()["items"]:
        used.update(calls=row["model_calls"], input=row["input_tokens"], output=row["output_tokens"])
    recorded: Counter[str] = Counter()
    for item in service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]:
        if item["action"] != "model_calls.ended" or item["actor"] != who.member_id:
            continue
        for call in item["data"]["calls"]:
            if call["outcome"] == "ok":
                recorded.update(calls=1, input=call["input_tokens"], output=call["output_tokens"])
    return used, recorded
