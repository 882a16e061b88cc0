"""How often the judge is right: whole rollouts, simulated with fixed seeds. docs/deployment.md has 1,000 of each."""

import pytest

from app.rollout.rules import RolloutRules
from app.rollout.verdict import Kind
from app.settings import ROOT
from benchmarks.rollout_judge import EQUAL, SCENARIOS, fixed_threshold, simulate

RULES = RolloutRules.load(ROOT / "config")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
GOOD = [name for name in BY_NAME if name.startswith("equal")]
SLOW = {"twice as dear": 20}  # each aborts by a permutation test of 9,999 draws
SPOILED = ["fed NaN", "fed nothing", "one arm only", "a clock 3 minutes off", "telemetry lost at 25 %"]


@pytest.mark.parametrize("name", GOOD)
def test_good_releases_are_not_aborted_and_go_through(name: str) -> None:
    ends = simulate(RULES, BY_NAME[name], 200)
    assert ends[Kind.ABORT] <= 4, "2 % of 200"
    assert ends[Kind.PROMOTE] > 80, "a judge that holds everything is useless"


@pytest.mark.parametrize("name", [name for name in BY_NAME if name not in GOOD and name not in SPOILED])
def test_bad_releases_are_never_promoted(name: str) -> None:
    rollouts = SLOW.get(name, 200)
    ends = simulate(RULES, BY_NAME[name], rollouts)
    assert ends[Kind.PROMOTE] == 0
    assert ends[Kind.ABORT] > rollouts / 2, "with this much traffic it is seen"


@pytest.mark.parametrize("name", SPOILED)
def test_a_judge_that_sees_nothing_reliable_promotes_nothing(name: str) -> None:
    assert simulate(RULES, BY_NAME[name], 50)[Kind.PROMOTE] == 0


def test_the_fixed_threshold_that_it_replaces_aborts_good_releases() -> None:
    assert simulate(RULES, EQUAL, 200, fixed_threshold)[Kind.ABORT] > 20
