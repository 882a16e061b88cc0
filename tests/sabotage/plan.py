"""Which patches one run of the sweep tries, in which order, and which change touches which control."""

import hashlib
import subprocess
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.sabotage.patches import FOLDER, Patch

TEMPLATE = FOLDER.parent.parent
SOURCE = TEMPLATE / "{{cookiecutter.project_slug}}"
UNTRIED = ("(not tried yet)",)  # why a patch is stale that has no record at all


@dataclass(frozen=True)
class Planned:
    patch: Patch
    why: str
    bounded: bool = True  # left for another run when the time is up


def planned(
    patches: Sequence[Patch], stale: Mapping[str, Sequence[str]], touched: Collection[str], *, every: int, lot: str
) -> list[Planned]:
    """What CI tries: every patch of a touched control, then a drawn `every`th of all, then what else is stale.

    The order within each part is drawn by `lot`, so over many commits each has its turn; of what is stale, those that
    were never tried come first. The drawn part is small and is
    what finds a forged record: no time limit holds for it."""
    order = sorted(patches, key=lambda patch: hashlib.sha256(f"{lot}{patch.name}".encode()).hexdigest())
    drawn = {patch.name for patch in order[: -(-len(order) // every)]}
    first = [Planned(p, "the change touches its control", bounded=p.name not in drawn) for p in order]
    first = [each for each in first if each.patch.control in touched]
    rest = [patch for patch in order if patch.control not in touched]
    sample = [Planned(p, "drawn", bounded=False) for p in rest if p.name in drawn]
    left = [p for p in rest if p.name in stale and p.name not in drawn]
    untried_first = sorted(left, key=lambda patch: tuple(stale[patch.name]) != UNTRIED)
    others = [Planned(p, "stale") for p in untried_first]
    return [*first, *sample, *others]


def touched_controls(
    patches: Sequence[Patch], stale: Mapping[str, Sequence[str]], changed: Collection[str], source: Path = SOURCE
) -> set[str]:
    """The controls that a change touches: their code, a file that one of their patches cuts, a patch or a proof.

    `changed` are paths from the template's folder. Of a changed file of proofs only the proofs whose own definitions
    changed count: those whose kills name the proof as what made them stale."""
    prefix = f"{source.name}/"
    files = {name.removeprefix(prefix) for name in changed if name.startswith(prefix)}
    found = set()
    for patch in patches:
        proofs = {name.partition("::")[0] for name in stale.get(patch.name, ()) if "::" in name}
        own = f"tests/sabotage/{patch.file.name}" in changed
        if own or files.intersection(patch.touches) or files & proofs:
            found.add(patch.control)
    gates = tomllib.loads((source / "gates" / "controls.toml").read_text())["gate"]
    controls = [control for gate in gates for control in gate["control"]]
    return found | {each["id"] for each in controls if files.intersection(each.get("implemented", ()))}


def changed_files(base: str) -> set[str]:
    """Paths that differ from where this branch left `base`; none where that revision is not there (a shallow clone)."""
    left = _git("merge-base", base, "HEAD").strip()
    return set(filter(None, _git("diff", "-z", "--name-only", left).split("\0"))) if left else set()


def head() -> str:
    return _git("rev-parse", "HEAD").strip()


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=TEMPLATE, capture_output=True, text=True, check=False).stdout
