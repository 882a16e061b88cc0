"""What a piece of evidence is about: this code, this configuration, these prompts. Another subject makes it stale."""

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from gates.catalogue import ROOT

NONE = "none"


@dataclass(frozen=True)
class Subject:
    commit: str  # "none" outside a git repository
    tree: str  # git's hash of the working tree's content, committed or not
    dirty: bool
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
    commit = _git(root, "rev-parse", "HEAD") or NONE
    tree = _tree(root) if commit != NONE else digest(root, sorted(root.glob("app/**/*.py")))
    config = sorted((root / "config").glob("*.toml"))
    return Subject(
        commit=commit,
        tree=tree,
        dirty=commit == NONE or tree != _git(root, "rev-parse", "HEAD^{tree}"),
        config=digest(root, config),
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


def _tree(root: Path) -> str:
    """The tree that a commit of everything here would have; the repository's own index stays as it is."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "GIT_INDEX_FILE": str(Path(folder) / "index")}
        _git(root, "read-tree", "HEAD", environment=environment)
        _git(root, "add", "--all", "--", ".", environment=environment)
        return _git(root, "write-tree", environment=environment)


def _git(root: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=environment)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
