"""The catalogue of controls, from controls.toml: what must be true, how it is proven, what only people can say.

A control that is not built stands in it like any other and scores FAIL; nothing is hidden by being left out.
"""

import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
Weight = Literal["critical", "standard", "advanced"]


class CatalogueInvalid(Exception):
    """controls.toml cannot be used; the message says where and why."""


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Control(Entry):
    """One control. Without `assertions` or a `suite` nothing proves it yet, and it fails."""

    id: str = Field(pattern=r"^[A-Z]{3}-\d\d$")
    weight: Weight
    statement: str
    implemented: tuple[str, ...] = ()
    assertions: tuple[str, ...] = ()  # each must have been asserted at least once in a run of its proofs
    cases: int = 0  # at least so many, over all its proofs
    ttl_hours: int = 24  # how long evidence stays fresh; slow suites 168
    suite: str = ""  # in place of proofs: `make test-NAME`, where a machine has what it needs
    unproven: str = ""  # what the proof does not show

    @model_validator(mode="after")
    def _proven_or_not(self) -> Self:
        if self.suite:
            if self.assertions or self.cases or not self.implemented:
                raise ValueError(f"{self.id}: what a suite assesses has implemented, and neither assertions nor cases")
            return self
        if bool(self.assertions) != bool(self.cases) or bool(self.assertions) != bool(self.implemented):
            raise ValueError(f"{self.id}: implemented, assertions and cases come together or not at all")
        return self


class Statement(Entry):
    """What only people can attest, and for how long."""

    id: str = Field(pattern=r"^[A-Z]{3}-P\d$")
    weight: Weight
    days: int = Field(ge=1, le=365)
    statement: str
    people: Literal[1, 2] = 1


class Gate(Entry):
    id: str
    prefix: str
    name: str
    question: str
    minimum: int = Field(ge=0, le=5)
    waivable: bool = False
    suites: tuple[str, ...] = ()  # independent suites that level 5 needs
    unproven: str
    control: tuple[Control, ...]
    attest: tuple[Statement, ...] = ()

    @property
    def ids(self) -> list[str]:
        return [*(control.id for control in self.control), *(statement.id for statement in self.attest)]


class Catalogue(Entry):
    gate: tuple[Gate, ...]

    @classmethod
    def load(cls, path: Path = FOLDER / "controls.toml") -> "Catalogue":
        """Raises CatalogueInvalid."""
        try:
            return cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise CatalogueInvalid(f"{path.name}: {error}") from None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        ids = [name for gate in self.gate for name in gate.ids]
        if len(set(ids)) != len(ids):
            raise ValueError("an id is used twice")
        for gate in self.gate:
            strange = [name for name in gate.ids if not name.startswith(f"{gate.prefix}-")]
            if strange:
                raise ValueError(f"{', '.join(strange)}: ids of gate {gate.id} begin with {gate.prefix}-")
        return self

    @cached_property
    def controls(self) -> dict[str, Control]:
        return {control.id: control for gate in self.gate for control in gate.control}

    @cached_property
    def statements(self) -> dict[str, Statement]:
        return {statement.id: statement for gate in self.gate for statement in gate.attest}

    def named(self, gates: str) -> tuple[Gate, ...]:
        """The gates of a list such as `cost,errors`. Raises CatalogueInvalid naming what is allowed."""
        wanted = [name for name in re.split(r"[,\s]+", gates.strip().lower()) if name]
        known = {gate.id: gate for gate in self.gate}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise CatalogueInvalid(f"no gate {', '.join(unknown)}: choose from {', '.join(known)}")
        return tuple(gate for gate in self.gate if not wanted or gate.id in wanted)
