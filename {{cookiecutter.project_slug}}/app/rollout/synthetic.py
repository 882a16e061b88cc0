"""The synthetic canary tenant: the same chats to both versions, past the load balancer. Gate: deployment.

It is an ordinary member of a tenant of its own, so that its requests are authorised, guarded, metered and billed like
any other, and its spend has a cap of its own.
"""

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import cycle, islice
from uuid import uuid4

import httpx2

from app.rollout.platform import Sample

TASKS = (
    "Say in one sentence what a service level objective is.",
    "Name three causes of a slow answer from a web service.",
    "Write a short, polite answer to a customer whose order is late.",
    "Summarise in one sentence: the meeting moved from Tuesday to Thursday because the room was taken.",
)
TIMEOUT_S = 120.0
AT_ONCE = 4


@dataclass(frozen=True)
class SyntheticTraffic:
    """A Traffic. `key` is an API key of the canary tenant, with `chat:write`."""

    http: httpx2.Client
    addresses: Mapping[str, str]  # of the versions themselves, by slot
    key: str
    model: str = "standard"
    at_once: int = AT_ONCE

    def send(self, slots: tuple[str, ...], pairs: int) -> dict[str, Sample]:
        """Slots take turns, so that whatever slows the machine for a moment slows both."""
        tasks = islice(cycle(TASKS), pairs)
        asked = [(slot, task) for task in tasks for slot in slots]
        with ThreadPoolExecutor(self.at_once, thread_name_prefix="synthetic") as pool:
            answers = list(pool.map(lambda each: self._ask(*each), asked))
        sent = list(zip((slot for slot, _ in asked), answers, strict=True))
        return {slot: _sample([answer for of, answer in sent if of == slot]) for slot in slots}

    def _ask(self, slot: str, task: str) -> tuple[float, httpx2.Response | None]:
        # A text of its own each time: an answer from the cache would say nothing of the version.
        message = {"role": "user", "content": f"{task} ({uuid4()})"}
        began = time.monotonic()
        try:
            answer = self.http.post(
                f"{self.addresses[slot]}/v1/chat/completions",
                headers={"Authorization": f"Bearer {self.key}"},
                json={"model": self.model, "messages": [message]},
                timeout=TIMEOUT_S,
            )
        except httpx2.HTTPError:
            return time.monotonic() - began, None
        return time.monotonic() - began, answer


def _sample(answers: list[tuple[float, httpx2.Response | None]]) -> Sample:
    """Latencies and costs are of answers that succeeded: a failure is counted by the version itself, as an error."""
    good = [(seconds, answer) for seconds, answer in answers if answer is not None and answer.status_code == 200]
    costs = [cost for _, answer in good if (cost := _cost(answer.headers.get("x-cost-usd", ""))) is not None]
    return Sample(
        unanswered=sum(answer is None for _, answer in answers),
        costs_usd=tuple(costs),
        latencies_ms=tuple(seconds * 1_000 for seconds, _ in good),
    )


def _cost(text: str) -> float | None:
    try:
        return float(Decimal(text))
    except InvalidOperation:
        return None
