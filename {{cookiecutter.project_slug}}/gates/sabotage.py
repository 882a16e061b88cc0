"""sabotage.json: which ways of breaking a control its proof has caught, and for which files that was shown.

The template's sweep writes it: each patch cuts a control out of a copy of the service, and the proof must fail on
the named assertion. It holds for the files it names; whoever changes them has to show it again.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from gates.catalogue import ROOT
from gates.subject import digest

FILE = ROOT / "gates" / "sabotage.json"


class KillsUnreadable(Exception):
    """sabotage.json cannot be judged; the message says why."""


@dataclass(frozen=True)
class Kill:
    control: str
    patch: str
    assertion: str
    proof: str
    cut: str  # sha256 of the patch
    files: dict[str, str]  # what was cut, and the proof that noticed: path to sha256


@dataclass(frozen=True)
class Kills:
    machinery: str  # digest of the rig and the plugin that every proof stands on
    kills: tuple[Kill, ...] = ()

    @classmethod
    def load(cls, file: Path = FILE) -> "Kills":
        if not file.exists():
            return cls("")
        try:
            return TypeAdapter(cls).validate_json(file.read_bytes())
        except ValidationError as error:
            issue = error.errors(include_input=False)[0]
            where = ".".join(map(str, issue["loc"]))
            raise KillsUnreadable(f"{file.name}: {where} {issue['msg']}") from None

    def caught(self, control: str, root: Path = ROOT) -> str:
        """Empty when every known sabotage of the control was caught by this code; otherwise why that is not shown."""
        known = [kill for kill in self.kills if kill.control == control]
        if not known:
            return "no sabotage of it was tried"
        if self.machinery != machinery(root):
            return "its proofs' machinery changed since the sabotage was caught"
        changed = {name for kill in known for name, sha in kill.files.items() if sha256(root / name) != sha}
        return f"changed since the sabotage was caught: {', '.join(sorted(changed))}" if changed else ""


def machinery(root: Path = ROOT) -> str:
    shared = ("conftest.py", "plugin.py", "proof.py")
    return digest(root, [*(root / "gates" / name for name in shared), *sorted((root / "gates" / "rig").glob("*.py"))])


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
