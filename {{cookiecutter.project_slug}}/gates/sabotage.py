"""sabotage.json: which ways of breaking a control its proof has caught, and for which code that was shown.

The template's sweep writes it: each patch cuts a control out of a copy of the service, and the proof must fail on
the named assertion. A kill holds for the files that were cut and for what its proof rests on (gates/proof_sources.py).
Once one of them changes, the kill is stale until it is shown again.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gates import proof_sources
from gates.catalogue import ROOT
from gates.proof_sources import ProofUnknown

FILE = ROOT / "gates" / "sabotage.json"
MAX_NAMED = 3  # changed files that a reason names


class KillsUnreadable(Exception):
    """sabotage.json cannot be judged; the message says why."""


@dataclass(frozen=True)
class Kill:
    control: str
    patch: str
    assertion: str
    proof: str
    cut: str  # sha256 of the patch
    files: dict[str, str]  # what was cut, and each proof that noticed (`file::test`): its digest
    harness: str  # key of `Kills.harnesses`: the modules below gates/ that those proofs rest on


@dataclass(frozen=True)
class Kills:
    harnesses: dict[str, dict[str, str]] = field(default_factory=dict)
    kills: tuple[Kill, ...] = ()

    @classmethod
    def load(cls, file: Path = FILE) -> "Kills":
        """Raises KillsUnreadable."""
        if not file.exists():
            return cls()
        try:
            found = TypeAdapter(cls).validate_json(file.read_bytes())
        except ValidationError as error:
            issue = error.errors(include_input=False)[0]
            where = ".".join(map(str, issue["loc"]))
            raise KillsUnreadable(f"{file.name}: {where} {issue['msg']}") from None
        for kill in found.kills:
            if kill.harness not in found.harnesses:
                raise KillsUnreadable(f"{file.name}: {kill.patch} names the harness {kill.harness}, which is not there")
        return found

    @cached_property
    def stale(self) -> dict[str, tuple[str, ...]]:
        """Each kill that is not shown on this code, by its patch, with what changed since."""
        changed = {kill.patch: self._changed(kill) for kill in self.kills}
        return {patch: names for patch, names in changed.items() if names}

    def uncaught(self, control: str) -> str:
        """Empty when every known sabotage of the control was caught by this code; otherwise why that is not shown."""
        known = [kill for kill in self.kills if kill.control == control]
        if not known:
            return "no sabotage of it was tried"
        stale = [kill.patch for kill in known if kill.patch in self.stale]
        if not stale:
            return ""
        changed = sorted({name for patch in stale for name in self.stale[patch]})
        more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
        named = ", ".join(changed[:MAX_NAMED]) + more
        return f"stale: {len(stale)} of {len(known)} sabotages are not shown since a change of {named}"

    def _changed(self, kill: Kill) -> tuple[str, ...]:
        proofs = [name for name in kill.files if "::" in name]
        if not proofs:
            return ("(no proof is named)",)
        try:
            files, harness = digests([name for name in kill.files if "::" not in name], proofs)
        except ProofUnknown:
            return tuple(proofs)
        then = self.harnesses[kill.harness]
        own = [name for name, digest in kill.files.items() if files[name] != digest]
        return (*own, *sorted(name for name in then | harness if then.get(name) != harness.get(name)))


def digests(cut: Iterable[str], proofs: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """What a kill by these proofs is shown for now: (cut files and proofs, the harness), each with its digest.

    Raises ProofUnknown."""
    rested = [proof_sources.digests(proof) for proof in proofs]
    files = {name: proof_sources.file_digest(name) for name in sorted(cut)}
    files |= {name: digest for each in rested for name, digest in each.items() if "::" in name}
    return files, {name: digest for each in rested for name, digest in each.items() if "::" not in name}


def harness_key(harness: dict[str, str]) -> str:
    """The name under which the record keeps a harness."""
    return proof_sources.short(json.dumps(harness, sort_keys=True).encode())
