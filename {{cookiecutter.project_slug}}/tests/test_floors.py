"""The architecture's rules hold, and each is able to fail: one violation of each is planted."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT

PLANTED = [
    ("app/db/base.py", "from app.identity import principal", "Floors"),
    ("app/features/__init__.py", "from app.bootstrap import open_runtime", "Only entrypoints"),
    ("app/runs/prompt.py", "import fastapi", "web framework"),
    ("app/runs/prompt.py", "import openai", "Provider SDKs"),
]


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("file", "line", "contract"), PLANTED)
def test_a_planted_violation_breaks_its_contract(copy: Path, file: str, line: str, contract: str) -> None:
    path = copy / file
    path.write_text(path.read_text() + f"\n{line}\n")
    result = _lint(copy)
    assert result.returncode == 1
    broken = [row for row in result.stdout.splitlines() if row.endswith("BROKEN")]
    assert any(contract in row for row in broken), result.stdout


def test_a_package_without_a_floor_breaks_the_contract(copy: Path) -> None:
    (copy / "app" / "helpers").mkdir()
    (copy / "app" / "helpers" / "__init__.py").touch()
    assert _lint(copy).returncode == 1
