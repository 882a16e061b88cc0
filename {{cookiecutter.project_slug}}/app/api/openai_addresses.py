"""Which addresses belong to OpenAI's interface. Gate: errors.

Clients of that interface put a path behind a base URL that somebody typed: with a slash too many, without `/v1`, with
two of them. They can read an error in its own shape alone, so a path that can only be theirs is answered in it.
"""

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
