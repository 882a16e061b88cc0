"""Questions that are asked at once are answered by one transaction, and those of a kind by one statement.

Every request asks the same few: whose key, which switches, how the budget stands. Gate: performance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from app.db.availability import require_takes_writes

About = TypeVar("About")
Found = TypeVar("Found")
Ask = Callable[[sa.Connection, Sequence[About]], Sequence[Found]]


@dataclass(frozen=True)
class Look:
    """One question. `ask`, a function of a module, answers many of its kind, each in its place."""

    ask: Ask[Any, Any]
    about: Any


def by_kind(looks: Sequence[Look]) -> dict[Ask[Any, Any], list[int]]:
    """The places of each kind's questions."""
    places: dict[Ask[Any, Any], list[int]] = {}
    for place, look in enumerate(looks):
        places.setdefault(look.ask, []).append(place)
    return places


def answered(connection: sa.Connection, looks: Sequence[Look]) -> list[Any]:
    """All answers, in the order of the questions."""
    answers: list[Any] = [None] * len(looks)
    for ask, places in by_kind(looks).items():
        for place, answer in zip(places, ask(connection, [looks[place].about for place in places]), strict=True):
            answers[place] = answer
    return answers


def is_there(connection: sa.Connection, asked: Sequence[None]) -> list[bool]:
    """Whether the database answers and takes writes: the question of a health check."""
    require_takes_writes(connection)
    return [True] * len(asked)
