"""What comes of a tool call, as values that survive a restart as JSON."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Performed:
    value: Any


@dataclass(frozen=True)
class Refused:
    """Not executed, or not to be executed again; the text goes to the model."""

    reason: str


@dataclass(frozen=True)
class Parked:
    """Waiting for a person's decision."""

    approval_id: str


@dataclass(frozen=True)
class Invalid:
    """The arguments do not fit the tool's schema; the model may try again."""

    problems: tuple[str, ...]


Outcome = Performed | Refused | Parked | Invalid
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Performed, Refused, Parked, Invalid)}


def to_json(outcome: Outcome) -> dict[str, Any]:
    return {"kind": type(outcome).__name__, **asdict(outcome)}


def from_json(data: dict[str, Any]) -> Outcome:
    fields = {name: tuple(value) if name == "problems" else value for name, value in data.items() if name != "kind"}
    outcome: Outcome = _KINDS[data["kind"]](**fields)
    return outcome
