"""What is declared about each dependency in trouble, from dependencies.toml, and its page, docs/dependencies.md."""

import tomllib
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field

from app.errors import CATALOGUE
from gates.catalogue import FOLDER
from gates.rig.relay import Trouble

TROUBLES = tuple(trouble for trouble in get_args(Trouble) if trouble)
AS_ALWAYS, TOOL_FAILS = "as always", "the tool fails"
HEAD = """# Dependencies in trouble

Made from `gates/dependencies.toml` by `python -m gates page`; do not edit. Every cell is run by the proofs of ERR-12,
through a wire that refuses connections (down), says nothing more (slow), answers nonsense (garbage) or breaks off in
the middle of an answer (partial). Times are for `DATABASE_TIMEOUT_S=2`, `MODEL_TIMEOUT_MS=2000`; longer ones move them.
"""


class Cell(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    answer: str
    within_s: float = Field(gt=0)

    @property
    def told(self) -> str:
        known = CATALOGUE.get(self.answer)
        answer = f"`{self.answer}` ({known.status})" if known else self.answer
        return f"{answer} within {self.within_s:g} s"


class Dependency(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    what: str
    back: str
    down: Cell
    slow: Cell
    garbage: Cell
    partial: Cell

    def cell(self, trouble: Trouble) -> Cell:
        cell: Cell = getattr(self, trouble)
        return cell


class Dependencies(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    dependency: tuple[Dependency, ...]


def load() -> tuple[Dependency, ...]:
    """Raises ValidationError for a blank cell."""
    declared = tomllib.loads((FOLDER / "dependencies.toml").read_text(encoding="utf-8"))
    return Dependencies.model_validate(declared).dependency


def page(dependencies: tuple[Dependency, ...]) -> str:
    heads = f"| dependency | {' | '.join(TROUBLES)} |\n|---|{'---|' * len(TROUBLES)}\n"
    rows = "".join(f"| {d.name} | {' | '.join(d.cell(t).told for t in TROUBLES)} |\n" for d in dependencies)
    notes = "".join(f"\n**{d.name[0].upper()}{d.name[1:]}.** {d.what} {d.back}\n" for d in dependencies)
    return f"{HEAD}\n{heads}{rows}{notes}"
