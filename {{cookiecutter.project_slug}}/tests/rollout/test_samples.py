"""Mann-Whitney, the ratio of means and the permutation test: definitions, enumeration, and figures of SciPy 1.17."""

import math
import random
from collections.abc import Sequence
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rollout.samples import mann_whitney, mean_ratio, permutation_greater

VALUES = st.lists(st.integers(0, 12).map(float), min_size=2, max_size=40)


def _pairs(canary: Sequence[float], stable: Sequence[float]) -> float:
    """The effect size as it is defined: the share of pairs, ties counted half."""
    return sum((a > b) + 0.5 * (a == b) for a in canary for b in stable) / (len(canary) * len(stable))


@pytest.mark.parametrize(
    ("canary", "stable", "u", "p"),
    [  # scipy.stats.mannwhitneyu(canary, stable, alternative="greater", method="asymptotic")
        ([float(v) for v in range(1, 41)], [v * 1.5 - 3 for v in range(1, 31)], 606.5, 0.4716133221499761),
        ([float(v % 7) for v in range(60)], [float(v % 5) for v in range(50)], 1880.0, 0.010500385869076286),
    ],
)
def test_mann_whitney_is_scipy_s(canary: list[float], stable: list[float], u: float, p: float) -> None:
    result = mann_whitney(canary, stable)
    assert result.cles * len(canary) * len(stable) == pytest.approx(u)
    assert result.p == pytest.approx(p, rel=1e-9)


@given(VALUES, VALUES)
def test_the_effect_size_is_the_share_of_pairs(canary: list[float], stable: list[float]) -> None:
    result = mann_whitney(canary, stable)
    assert result.cles == pytest.approx(_pairs(canary, stable))
    assert mann_whitney(stable, canary).cles == pytest.approx(1 - result.cles)
    assert 0 <= result.p <= 1


@given(VALUES, VALUES)
def test_ranks_do_not_depend_on_the_unit(canary: list[float], stable: list[float]) -> None:
    squared = mann_whitney([v * v for v in canary], [v * v for v in stable])
    assert squared == mann_whitney(canary, stable)


def test_values_that_are_all_equal_show_nothing() -> None:
    result = mann_whitney([3.0] * 30, [3.0] * 30)
    assert (result.cles, result.error, result.p) == (0.5, 0.0, 1.0)


def test_the_standard_error_is_what_samples_vary_by() -> None:
    draw, effects, errors = random.Random(4), [], []  # noqa: S311 - repeatable
    for _ in range(400):
        canary = [draw.lognormvariate(0.3, 0.8) for _ in range(60)]
        result = mann_whitney(canary, [draw.lognormvariate(0.0, 0.5) for _ in range(90)])
        effects.append(result.cles)
        errors.append(result.error)
    mean = sum(effects) / len(effects)
    spread = math.sqrt(sum((effect - mean) ** 2 for effect in effects) / len(effects))
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.1)


def test_the_permutation_test_is_the_enumeration() -> None:
    canary, stable = [78.0, 64.0, 75.0, 95.0], [53.0, 70.0, 51.0, 60.0, 66.0]
    pool = canary + stable
    every = [sum(pool[i] for i in chosen) for chosen in combinations(range(9), 4)]
    exact = sum(each >= sum(canary) for each in every) / len(every)
    seen = [permutation_greater(canary, stable, seed=seed) for seed in range(60)]
    assert sum(seen) / len(seen) == pytest.approx(exact, rel=0.15)


def test_the_permutation_test_keeps_its_level() -> None:
    draw, significant = random.Random(5), 0  # noqa: S311 - repeatable
    for seed in range(600):
        values = [draw.lognormvariate(0, 1) for _ in range(50)]
        significant += permutation_greater(values[:20], values[20:], seed=seed, simulations=199) <= 0.05
    assert 10 <= significant <= 45  # 30 expected, four standard deviations either way


def test_the_permutation_test_repeats_itself_and_is_never_zero() -> None:
    canary, stable = [float(v) for v in range(30, 60)], [float(v) for v in range(30)]
    assert permutation_greater(canary, stable, seed=7) == permutation_greater(canary, stable, seed=7) == 1 / 10_000
    assert permutation_greater(stable, canary, seed=7) == 1.0


@given(VALUES, st.integers(0, 5))
def test_equal_arms_are_no_evidence(values: list[float], seed: int) -> None:
    assert permutation_greater(values, values, seed=seed) > 0.05


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=40), st.floats(0.5, 4))
def test_the_ratio_of_means_is_the_factor(stable: list[float], factor: float) -> None:
    result = mean_ratio([factor * value for value in stable], stable)
    assert result.ratio == pytest.approx(factor)
    assert result.upper(1.645) >= result.ratio


def test_a_mean_of_nothing_has_no_bound() -> None:
    assert mean_ratio([1.0, 2.0], [0.0, 0.0]).upper(1.645) == math.inf
    assert mean_ratio([0.0, 0.0], [0.0, 0.0]).upper(1.645) == 1.0
    assert mean_ratio([0.0, 0.0], [1.0, 2.0]).upper(1.645) == 0.0


def test_the_bound_of_the_ratio_holds_as_often_as_it_says() -> None:
    draw, held = random.Random(6), 0  # noqa: S311 - repeatable
    for _ in range(500):
        canary = [1.2 * draw.lognormvariate(0, 0.7) for _ in range(80)]
        held += mean_ratio(canary, [draw.lognormvariate(0, 0.7) for _ in range(120)]).upper(1.645) >= 1.2
    assert 0.92 <= held / 500 <= 0.98
