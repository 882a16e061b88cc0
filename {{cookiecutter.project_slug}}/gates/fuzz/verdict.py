"""Whether an answer, and what was written down meanwhile, is what it may be to whatever was sent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gates.rig.canaries import Canaries

# The routes of the models: past their checks a provider is asked, and what it says is passed on.
OF_MODELS = (
    "POST /v1/chat/completions", "POST /v1/responses", "POST /v1/embeddings", "GET /v1/models",
    "GET /v1/models/{model_id:path}",
)  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What came back: the status, 0 where the connection was closed without an answer, and all its bytes."""

    status: int
    head: bytes = b""
    body: bytes = b""
    gives_back: bool = False  # a page that shows what is stored, and what was typed


def wrong(told: Told, planted: Canaries, secrets: Canaries, written: bytes) -> str:
    """What may not be; empty where all is well. `written` is what the log got in the meantime."""
    if told.status >= 500:
        return f"answered {told.status}: {told.body[:300]!r}"
    whole = told.head + told.body
    if told.status >= 400 and not told.gives_back and planted.found_in(whole):
        return f"answered {told.status} and repeated what was sent: {told.body[:600]!r}"
    if shown := secrets.found_in(whole):
        return f"answered {told.status} and showed {', '.join(shown)}"
    if shown := secrets.found_in(written):
        return f"wrote {', '.join(shown)} to the log: {written[-600:]!r}"
    return f"wrote what was sent to the log: {written[-600:]!r}" if planted.found_in(written) else ""


def leaks(sinks: Mapping[str, bytes], secrets: Canaries) -> list[str]:
    """The sinks that hold a secret."""
    return [f"{name} holds {', '.join(found)}" for name, output in sinks.items() if (found := secrets.found_in(output))]


def reached(lines: Sequence[Mapping[str, object]]) -> int:
    """How many requests got to a route with a credential that it took: to its checks of what was sent, or beyond."""
    return sum(line["route"] != "unmatched" and line["status"] not in {401, 405} for line in lines)


def done(by_route: Mapping[str, Mapping[int, int]], names: Sequence[str]) -> dict[str, int]:
    """How many requests for each of these routes were answered 2xx. `by_route` counts each status of each route."""
    answers = {name: by_route.get(name, {}) for name in names}
    return {name: sum(n for status, n in seen.items() if 200 <= status < 300) for name, seen in answers.items()}
