"""Whole rollouts, simulated with fixed seeds: what the proof of DEP-07 does not simulate, a few of each.

`make benchmarks` has every scenario, 1,000 rollouts of each: docs/deployment.md.
"""

import pytest

from app.rollout.rules import RolloutRules
from app.rollout.verdict import Kind
from app.settings import ROOT
from benchmarks.rollout_judge import EQUAL, SCENARIOS, fixed_threshold, simulate

RULES = RolloutRules.load(ROOT / "config")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


@pytest.mark.parametrize("name", ["equal, no errors", "equal, 5 % errors"])
def test_good_releases_are_hardly_aborted_and_go_through(name: str) -> None:
    ends = simulate(RULES, BY_NAME[name], 25)
    assert ends[Kind.ABORT] <= 1
    assert ends[Kind.PROMOTE] >= 5, "a judge that holds everything is useless"


@pytest.mark.parametrize(
    ("name", "rollouts"),
    # "twice as dear" aborts by a permutation test of 9,999 draws each
    [("1 % to 3 % errors", 25), ("1 % to 30 % errors", 25), ("twice as dear", 3), ("telemetry lost at 25 %", 25)],
)
def test_bad_releases_and_lost_telemetry_abort_and_are_never_promoted(name: str, rollouts: int) -> None:
    ends = simulate(RULES, BY_NAME[name], rollouts)
    assert ends[Kind.PROMOTE] == 0
    assert ends[Kind.ABORT] > rollouts / 2, "with this much traffic it is seen"


def test_the_fixed_threshold_that_it_replaces_aborts_good_releases() -> None:
    assert simulate(RULES, EQUAL, 100, fixed_threshold)[Kind.ABORT] > 10
