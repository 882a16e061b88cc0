"""The shipped evaluation set passes, and a weakened guard turns it red."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT


def _evals(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "evals", "run", "--json"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("app", "config", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml",):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_the_shipped_set_passes_and_a_widened_policy_turns_it_red(copy: Path) -> None:
    good = _evals(copy)
    assert good.returncode == 0, good.stderr
    [report] = json.loads(good.stdout)
    assert len(report["cases"]) == 20
    assert report["dataset_hash"]
    policy = copy / "config" / "policy.toml"
    policy.write_text(policy.read_text().replace('decision = "ask"', 'decision = "allow"'))
    rules = copy / "app" / "policy" / "rules.py"
    rules.write_text(rules.read_text().replace("if taint and", "if False and"))
    bad = _evals(copy)
    assert bad.returncode == 1
    assert not json.loads(bad.stdout)[0]["ok"]
