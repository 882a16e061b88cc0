"""Fisher's exact test and Newcombe's interval: published examples, integers, and what holds for any counts."""

from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rollout.proportions import Proportion, fisher_greater, newcombe, one_sided_z, requests_needed, wilson

Z95 = 1.959964


@st.composite
def _proportions(draw: st.DrawFn, most: int = 300) -> Proportion:
    total = draw(st.integers(1, most))
    return Proportion(draw(st.integers(0, total)), total)


def _by_integers(canary: Proportion, stable: Proportion) -> float:
    events, both = canary.events + stable.events, canary.total + stable.total
    tail = sum(
        comb(events, k) * comb(both - events, canary.total - k)
        for k in range(canary.events, min(events, canary.total) + 1)
    )
    return float(Fraction(tail, comb(both, canary.total)))


@pytest.mark.parametrize(
    ("canary", "stable", "p"),
    [
        ((4, 4), (0, 4), 1 / 70),  # Fisher's tea, tasted without a mistake, and with one
        ((3, 4), (1, 4), 17 / 70),
        ((10, 13), (2, 17), 0.000465),  # his convicts: twins of 13 one-egg and 17 two-egg pairs (1935)
    ],
)
def test_fisher_s_own_examples(canary: tuple[int, int], stable: tuple[int, int], p: float) -> None:
    assert fisher_greater(Proportion(*canary), Proportion(*stable)) == pytest.approx(p, rel=1e-3)


@given(_proportions(), _proportions())
def test_fisher_s_test_is_the_sum_of_the_tail(canary: Proportion, stable: Proportion) -> None:
    assert fisher_greater(canary, stable) == pytest.approx(_by_integers(canary, stable), rel=1e-9)


def test_fisher_s_test_keeps_its_level() -> None:
    """All outcomes of two arms of 40 and 60 requests at one rate: at most the level is called significant."""
    level, rate = 0.05, 0.1
    chance = 0.0
    for a in range(41):
        for b in range(61):
            if fisher_greater(Proportion(a, 40), Proportion(b, 60)) <= level:
                chance += comb(40, a) * comb(60, b) * rate ** (a + b) * (1 - rate) ** (100 - a - b)
    assert 0 < chance <= level


@pytest.mark.parametrize(
    ("first", "second", "interval"),
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((6, 7), (2, 7), (0.0582, 0.8062)),
        ((5, 56), (0, 29), (-0.0381, 0.1926)),
        ((0, 10), (0, 20), (-0.1611, 0.2775)),
        ((0, 10), (0, 10), (-0.2775, 0.2775)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
        ((10, 10), (0, 10), (0.6075, 1.0)),
    ],
)
def test_newcombe_s_table_ii(first: tuple[int, int], second: tuple[int, int], interval: tuple[float, float]) -> None:
    assert newcombe(Proportion(*first), Proportion(*second), Z95) == pytest.approx(interval, abs=5e-5)


@given(_proportions(), _proportions())
def test_newcombe_s_interval_holds_the_difference_and_turns_with_the_arms(a: Proportion, b: Proportion) -> None:
    low, high = newcombe(a, b, Z95)
    assert -1 <= low <= a.rate - b.rate <= high <= 1 or (low, high) == pytest.approx((a.rate - b.rate,) * 2)
    assert newcombe(b, a, Z95) == pytest.approx((-high, -low))


@given(_proportions(), st.integers(2, 50))
def test_more_of_the_same_narrows_the_interval(seen: Proportion, times: int) -> None:
    more = Proportion(seen.events * times, seen.total * times)
    narrow, wide = wilson(more, Z95), wilson(seen, Z95)
    assert narrow[1] - narrow[0] < wide[1] - wide[0]


@pytest.mark.parametrize(("margin", "needed"), [(5, 59), (2, 149), (1, 299), (15, 19)])
def test_how_many_requests_a_margin_takes(margin: float, needed: int) -> None:
    assert requests_needed(margin) == needed
    assert (1 - margin / 100) ** needed <= 0.05 < (1 - margin / 100) ** (needed - 1)


@given(st.floats(0.5, 30))
def test_the_requests_needed_suffice_for_the_interval_where_nothing_failed(margin: float) -> None:
    clean = Proportion(0, requests_needed(margin))
    assert newcombe(clean, clean, one_sided_z(0.95))[1] * 100 < margin
