"""A verdict from scores: floors, slices, error bars, and sets that are too small."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.evals.verdict import CaseScore, Thresholds, scores, wilson
from app.settings import ROOT

THRESHOLDS = Thresholds(dataset_version="1", minimum_cases=2, checks={"Right": 0.9}, slices={"risky": 1.0})


def _cases(right: int, wrong: int, name: str = "common") -> list[CaseScore]:
    return [CaseScore(str(n), name, {"Right": n < right}) for n in range(right + wrong)]


def test_a_floor_is_met_or_missed_exactly() -> None:
    assert all(score.ok for score in scores(_cases(9, 1), THRESHOLDS))
    assert not all(score.ok for score in scores(_cases(8, 2), THRESHOLDS))


def test_a_slice_has_a_floor_of_its_own() -> None:
    found = {score.name: score.ok for score in scores(_cases(99, 0) + _cases(1, 1, "risky"), THRESHOLDS)}
    assert found == {"Right": True, "slice common": True, "slice risky": False}


def test_a_check_that_never_ran_fails() -> None:
    silent = [CaseScore("1", "common", {}), CaseScore("2", "common", {})]
    assert not scores(silent, THRESHOLDS)[0].ok


def test_no_cases_is_not_a_pass() -> None:
    assert not all(score.ok for score in scores([], THRESHOLDS))


@pytest.mark.parametrize(
    ("passed", "total", "low", "high"), [(27, 30, 0.744, 0.965), (90, 100, 0.826, 0.945), (30, 30, 0.886, 1.0)]
)
def test_the_interval_is_wilson_s(passed: int, total: int, low: float, high: float) -> None:
    assert wilson(passed, total) == pytest.approx((low, high), abs=0.001)


def _evals(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "evals", "run", "--json"], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("app", "config", "migrations"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "alembic.ini"):
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
