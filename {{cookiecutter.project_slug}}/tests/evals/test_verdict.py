"""A verdict from scores: floors, slices, error bars, and sets that are too small."""

import pytest

from app.evals.verdict import CaseScore, Thresholds, scores, wilson

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
