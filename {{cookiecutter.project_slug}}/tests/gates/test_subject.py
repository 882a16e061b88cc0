"""Evidence is about the code that runs: what lies on the disk, not what git was told to look at."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from gates.subject import NONE, current


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("app/guard.py", "config/policy.toml", "gates/test_x.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a = 1\n")
    (tmp_path / ".gitignore").write_text("ignored/\n__pycache__/\n")
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "--all")
    _git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def _edit(folder: Path) -> None:
    (folder / "app" / "guard.py").write_text("a = 2\n")


def _nested(folder: Path) -> None:
    (folder / "app" / "nested").mkdir()
    _git(folder / "app" / "nested", "init", "-q")
    _edit(folder)


def _assume_unchanged(folder: Path) -> None:
    _git(folder, "update-index", "--assume-unchanged", "app/guard.py")
    _edit(folder)


def _skip_worktree(folder: Path) -> None:
    _git(folder, "update-index", "--skip-worktree", "app/guard.py")
    _edit(folder)


def _filtered(folder: Path) -> None:
    (folder / ".git" / "info").mkdir(exist_ok=True)
    (folder / ".git" / "info" / "attributes").write_text("*.py filter=hide\n")
    _git(folder, "config", "filter.hide.clean", "echo a = 1")
    _edit(folder)


def _ignored(folder: Path) -> None:
    (folder / "app" / "ignored").mkdir()
    (folder / "app" / "ignored" / "more.py").write_text("b = 1\n")


def _elsewhere(folder: Path) -> None:
    (folder / "README.md").write_text("changed")


def _gone(folder: Path) -> None:
    (folder / "gates" / "test_x.py").unlink()


@pytest.mark.parametrize(
    "change", [_edit, _nested, _assume_unchanged, _skip_worktree, _filtered, _ignored, _elsewhere, _gone]
)
def test_whatever_differs_from_the_commit_is_dirty(clone: Path, change: Callable[[Path], None]) -> None:
    before = current(clone)
    assert not before.dirty
    change(clone)
    after = current(clone)
    assert after.dirty
    assert (after.tree != before.tree) == (change is not _elsewhere)


def test_what_python_makes_is_no_change(clone: Path) -> None:
    (clone / "app" / "__pycache__").mkdir()
    (clone / "app" / "__pycache__" / "guard.pyc").write_bytes(b"x")
    assert not current(clone).dirty


def test_a_commit_a_configuration_and_no_repository_make_another_subject(clone: Path, tmp_path: Path) -> None:
    before = current(clone)
    _git(clone, "commit", "--allow-empty", "-qm", "second")
    assert current(clone).commit != before.commit
    (clone / "config" / "policy.toml").write_text("b = 1\n")
    assert current(clone).policy != before.policy
    bare = tmp_path / "bare"
    bare.mkdir()
    (clone / ".git").rename(tmp_path / "moved")
    assert (current(bare).commit, current(bare).dirty) == (NONE, True)
