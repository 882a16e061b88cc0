"""releases.toml: which digest a release is, where it goes back to, and what the code it goes back to has to know.

A schema that only expands lets older code go on. `min_schema` is where that ends: from this release on, data is written
that only code which knows these migrations can read. Gate: deployment.
"""

import tomllib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.config_files import SettingsInvalid

Ancestors = Callable[[Collection[str]], frozenset[str]]  # of these migrations, with themselves


class Release(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str = Field(min_length=1)
    digest: str = Field(min_length=1)
    rollback_to: str | None = None  # a release; none for the first
    schema_: tuple[str, ...] = Field(default=(), alias="schema")  # the newest migrations that its code knows
    min_schema: tuple[str, ...] = ()  # what code has to know to read what this release writes


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    releases: tuple[Release, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what in ("release", "digest"):
            values = [getattr(each, what) for each in self.releases]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"{what} {min(twice)} is there twice")
        earlier: set[str] = set()
        for each in self.releases:
            if each.rollback_to is not None and each.rollback_to not in earlier:
                raise ValueError(f"{each.release}: rollback_to {each.rollback_to} is no earlier release")
            earlier.add(each.release)
        return self


@dataclass(frozen=True)
class Releases:
    """Every release, oldest first."""

    releases: tuple[Release, ...]
    path: Path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises SettingsInvalid naming what cannot be used."""
        try:
            return cls(_File.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).releases, path)
        except ValidationError as error:
            issues = error.errors(include_input=False, include_url=False)
            lines = [f"{'.'.join(map(str, issue['loc']))}: {issue['msg']}" for issue in issues]
        except (OSError, ValueError) as error:
            lines = [str(error)]
        raise SettingsInvalid(f"{path} is no list of releases:\n  " + "\n  ".join(lines))

    def of(self, digest: str) -> Release | None:
        return next((each for each in self.releases if each.digest == digest), None)

    def rollback_target(self, digest: str) -> Release | None:
        """What the release of this digest names as its way back."""
        current = self.of(digest)
        return next((each for each in self.releases if current and each.release == current.rollback_to), None)

    def unreadable(self, newer: str, older: str, ancestors: Ancestors) -> str:
        """Why the older digest cannot read what releases up to the newer one have written; empty where it can."""
        known = {digest: self.of(digest) for digest in (newer, older)}
        for digest, release in known.items():
            if release is None:
                return f"{digest} is not in {self.path.name}, so nobody has said what it can read."
        order = [each.digest for each in self.releases]
        target = self.releases[order.index(older)]
        reads = ancestors(target.schema_)
        for release in self.releases[order.index(older) + 1 : order.index(newer) + 1]:
            if lacking := sorted(set(release.min_schema) - reads):
                return (
                    f"{target.release} cannot read what {release.release} writes: that takes migration "
                    f"{', '.join(lacking)}, which {target.release} does not know."
                )
        return ""
