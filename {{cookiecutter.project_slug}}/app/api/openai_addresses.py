"""Which addresses belong to OpenAI's interface, and which one is meant by one that is not here. Gate: errors.

Clients of that interface put a path behind a base URL that somebody typed: with a slash too many, without `/v1`, with
two of them. They can read an error in its own shape alone, so a path that can only be theirs is answered in it.
"""

from collections.abc import Collection

PREFIX = "v1"
CHAT = "/v1/chat/completions"
# The first part of each path of OpenAI's interface, and where this service answers what it is for. A path of this
# service's own, or of a feature, must not begin with one of these.
RESOURCES = {
    "chat": CHAT,
    "completions": CHAT,
    "responses": "/v1/responses",
    "conversations": "/v1/responses",
    "embeddings": "/v1/embeddings",
    "models": "/v1/models",
} | dict.fromkeys(
    (
        "assistants", "audio", "batches", "chatkit", "containers", "edits", "engines", "fine-tunes", "fine_tuning",
        "images", "moderations", "organization", "realtime", "threads", "uploads", "vector_stores", "videos", "files",
    ),
    "",
)  # fmt: skip


class OpenAIPaths:
    """Every path that can only be that of a client of OpenAI's interface: its errors have that interface's shape."""

    def __contains__(self, path: str) -> bool:
        return _resource(path) in RESOURCES


OPENAI_PATHS = OpenAIPaths()


def way_out(path: str, served: Collection[str], base_url: str) -> str:
    """A sentence for whoever sent a request to such a path, which is none here. It repeats nothing of the path.

    `served` are the paths of this service, `base_url` is what its clients are given."""
    resource = _resource(path)
    meant = RESOURCES[resource]
    if meant not in served:
        offered = sorted({address for address in RESOURCES.values() if address in served})
        return f"This service does not offer /{PREFIX}/{resource}. It offers {', '.join(offered)}."
    if _plain(path) == meant:
        mistakes = ", ".join(text for text, made in _mistakes(path) if made)
        return f"The address is {meant}, {mistakes}: set the base URL to {base_url.rstrip('/')}/{PREFIX}."
    return f"This address is not offered. What there is of it here is {meant}."


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _plain(path: str) -> str:
    """The path with one /v1 before it and no slash that says nothing."""
    parts = _parts(path)
    while parts[:1] == [PREFIX]:
        parts = parts[1:]
    return "/" + "/".join([PREFIX, *parts])


def _resource(path: str) -> str:
    return [*_parts(_plain(path)), ""][1]


def _mistakes(path: str) -> tuple[tuple[str, bool], ...]:
    first, second = [*_parts(path), "", ""][:2]
    return (
        (f"with /{PREFIX} before it", first != PREFIX),
        (f"with /{PREFIX} once", first == second == PREFIX),
        ("without a slash at its end", path.endswith("/")),
        ("with single slashes", "//" in path),
    )
