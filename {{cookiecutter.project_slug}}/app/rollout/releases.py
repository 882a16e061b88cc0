"""releases.toml: the releases by version, where each goes back to, and what the code it goes back to has to know.

A schema that only expands lets older code go on. `min_schema` is where that ends: from this release on, data is written
that only code which knows these migrations can read. The file is committed before the image is built, so a digest is
bound to its release by the first rollout, in the rollout record. Gate: deployment.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.config_files import read_toml

Bindings = Mapping[str, str]  # digest by release
Ancestors = Callable[[Collection[str]], frozenset[str]]  # of these migrations, with themselves


class BindingConflict(Exception):
    """A release is one image, and an image is one release; the message says what is bound and what to do."""


def check_binding(bindings: Bindings, release: str, digest: str) -> None:
    """Raises BindingConflict where the release is another image, or the image another release."""
    bound = bindings.get(release, digest)
    if bound != digest:
        raise BindingConflict(
            f"Release {release} is {bound} already: give this image a version of its own, in pyproject.toml and "
            "releases.toml."
        )
    if other := next((name for name, each in bindings.items() if each == digest and name != release), None):
        raise BindingConflict(f"{digest} is release {other} already: start it as --release {other}.")


class Release(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    release: str = Field(min_length=1)
    digest: str | None = Field(default=None, min_length=1)  # None: known by the rollout record, or not yet
    rollback_to: str | None = None  # a release; none for the first
    schema_: tuple[str, ...] = Field(default=(), alias="schema")  # the newest migrations that its code knows
    min_schema: tuple[str, ...] = ()  # what code has to know to read what this release writes


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    releases: tuple[Release, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what in ("release", "digest"):
            values = [value for each in self.releases if (value := getattr(each, what)) is not None]
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
        return cls(read_toml(path, _File, "list of releases").releases, path)

    def of(self, digest: str) -> Release | None:
        return next((each for each in self.releases if each.digest == digest), None)

    def named(self, release: str) -> Release | None:
        return next((each for each in self.releases if each.release == release), None)

    @property
    def bindings(self) -> Bindings:
        return {each.release: each.digest for each in self.releases if each.digest}

    def bound(self, recorded: Bindings) -> Self:
        """These releases with the digests of the rollout record. Raises BindingConflict where the file has others."""
        for release, digest in recorded.items():
            try:
                check_binding(self.bindings, release, digest)
            except BindingConflict:
                raise BindingConflict(
                    f"{digest} was rolled out here as release {release}, and {self.path.name} says otherwise: take "
                    "that digest out of the file."
                ) from None
        digests = {**self.bindings, **recorded}
        filled = (each.model_copy(update={"digest": digests.get(each.release)}) for each in self.releases)
        return replace(self, releases=tuple(filled))

    def rollback_target(self, digest: str) -> Release | None:
        """What the release of this digest names as its way back."""
        current = self.of(digest)
        return self.named(current.rollback_to) if current and current.rollback_to else None

    def unreadable(self, newer: str, older: str, ancestors: Ancestors) -> str:
        """Why the older digest cannot read what releases up to the newer one have written; empty where it can."""
        known = {digest: self.of(digest) for digest in (newer, older)}
        for digest, release in known.items():
            if release is None:
                return f"{digest} is no release of {self.path.name}, so nobody has said what it can read."
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
