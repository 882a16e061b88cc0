"""What a piece of evidence is about: this code, this configuration, these prompts. Another subject makes it stale."""

import hashlib
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gates.catalogue import ROOT

NONE = "none"
CODE = ("app", "config", "gates", "migrations")  # what runs, read from the disk whatever git has been told about it
NOT_THE_SUBJECT = (":!attestations.toml",)  # people sign after they have seen the proofs
LEFT_OUT = {"__pycache__"}


@dataclass(frozen=True)
class Subject:
    commit: str  # "none" outside a git repository
    tree: str  # digest of the code as it lies on the disk
    dirty: bool  # something differs from the commit
    config: str
    policy: str
    models: str
    prompts: str

    def as_dict(self) -> dict[str, str | bool]:
        return asdict(self)

    @property
    def shown(self) -> str:
        return f"{self.commit[:12]}{' with uncommitted changes' if self.dirty else ''}"


def current(root: Path = ROOT) -> Subject:
    commit = _git(root, "rev-parse", "HEAD")
    changed = _git(root, "status", "--porcelain", "--", ".", *NOT_THE_SUBJECT)
    code = sorted(_code(root))
    return Subject(
        commit=(commit or NONE).strip(),
        tree=digest(root, code),
        dirty=commit is None or changed != "" or _differs(root, code),
        config=digest(root, sorted((root / "config").glob("*.toml"))),
        policy=digest(root, [root / "config" / "policy.toml"]),
        models=digest(root, [root / "config" / "models.toml"]),
        prompts=digest(root, sorted((root / "app" / "features").rglob("*.md"))),
    )


def digest(root: Path, files: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of these files; a file that is not there counts as empty."""
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        total.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return total.hexdigest()[:32]


def _code(root: Path) -> Iterable[Path]:
    for folder in CODE:
        for file in (root / folder).rglob("*"):
            if file.is_file() and not LEFT_OUT.intersection(file.parts):
                yield file


def _differs(root: Path, code: Iterable[Path]) -> bool:
    """Whether the code is not the commit's, byte for byte.

    `git status` can be told to overlook a file (ignored, sparse, filtered); what runs is what is on the disk."""
    listed = _git(root, "ls-tree", "-r", "-z", "--full-name", "HEAD", "--", *CODE)
    if listed is None:
        return True
    prefix = (_git(root, "rev-parse", "--show-prefix") or "").strip()
    entries = (entry.partition("\t") for entry in listed.split("\0") if entry)
    committed = {name.removeprefix(prefix): facts.split()[2] for facts, _, name in entries}
    here = {file.relative_to(root).as_posix(): _blob(file, committed) for file in code}
    return here != committed


def _blob(file: Path, committed: dict[str, str]) -> str:
    """The name git gives to this content: SHA-1, or SHA-256 in a repository of that kind."""
    content = file.read_bytes()
    kind = "sha256" if any(len(name) == 64 for name in committed.values()) else "sha1"
    return hashlib.new(kind, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _git(root: Path, *arguments: str) -> str | None:
    """What git says; None when it cannot say it."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True, timeout=600
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout
