"""One look at a rollout: what promotes, what aborts, what holds, and which rule decides."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rollout.judge import NoSuchStage, judge
from app.rollout.observations import Arm, Observations, Seen
from app.rollout.rules import RolloutRules
from app.rollout.verdict import Kind, Rule, Verdict
from app.settings import ROOT

RULES = RolloutRules.load(ROOT / "config")
BEGAN = datetime(2026, 1, 5, 12, tzinfo=UTC)
NOW = BEGAN + timedelta(minutes=20)
LATENCIES = tuple(float(200 + 7 * (n * 37 % 101)) for n in range(600))
COSTS = tuple(0.01 + 0.0001 * (n * 13 % 61) for n in range(600))
GOOD = {
    "errors": Seen(events=2, total=400),
    "golden_cases": Seen(events=48, total=48),
    "latency_ms": Seen(values=LATENCIES),
    "cost_usd": Seen(values=COSTS),
    "refusals": Seen(events=8, total=400),
    "denials": Seen(events=3, total=400),
    "output_repairs": Seen(events=3, total=400),
    "fallbacks": Seen(events=1, total=400),
}


def _arm(changes: dict[str, Seen] | None = None, *, began: datetime = BEGAN, until: datetime = NOW) -> Arm:
    return Arm(began=began, until=until, metrics={**GOOD, **(changes or {})})


def _judge(canary: Arm | None = None, stable: Arm | None = None, now: datetime = NOW, **rest: Any) -> Verdict:
    seen = {
        "stage": 1,
        "look": 1,
        "rollout_began": BEGAN,
        "canary": canary or _arm(),
        "stable": stable or _arm(),
        **rest,
    }
    return judge(RULES, Observations(**seen), now)


def _judge_arm(name: str, arm: Arm) -> Verdict:
    return _judge(canary=arm) if name == "canary" else _judge(stable=arm)


def test_as_good_as_the_stable_version_is_promoted() -> None:
    verdict = _judge()
    assert (verdict.kind, verdict.rule) == (Kind.PROMOTE, Rule.PROVEN)
    assert {finding.outcome for finding in verdict.findings} == {"within_margin"}
    assert verdict.missing == 0


@pytest.mark.parametrize(
    ("metric", "seen"),
    [
        ("errors", Seen(events=40, total=400)),
        ("golden_cases", Seen(events=24, total=48)),
        ("latency_ms", Seen(values=tuple(2 * value for value in LATENCIES))),
        ("cost_usd", Seen(values=tuple(2 * value for value in COSTS))),
    ],
)
def test_a_critical_metric_that_is_worse_aborts(metric: str, seen: Seen) -> None:
    verdict = _judge(_arm({metric: seen}))
    assert (verdict.kind, verdict.rule) == (Kind.ABORT, Rule.CRITICAL_WORSE)
    assert metric in verdict.message
    [finding] = [finding for finding in verdict.findings if finding.outcome == "worse"]
    assert finding.p is not None
    assert finding.p <= verdict.level
    better = _judge(stable=_arm({metric: seen}))
    assert better.rule is not Rule.CRITICAL_WORSE, "the arms are not confused"


def test_where_higher_is_better_lower_is_worse() -> None:
    for kind, values in (("distribution", LATENCIES), ("mean", COSTS)):
        rules = RolloutRules.model_validate({"metrics": {"rating": {"class": kind, "direction": "up"}}})
        arms = [_arm({"rating": Seen(values=tuple(factor * value for value in values))}) for factor in (1, 2)]
        for (canary, stable), expected in ((arms, Kind.ABORT), (arms[::-1], Kind.PROMOTE)):
            seen = Observations(stage=1, look=1, rollout_began=BEGAN, canary=canary, stable=stable)
            assert judge(rules, seen, NOW).kind is expected


def test_an_informative_metric_that_is_worse_holds_for_a_person() -> None:
    verdict = _judge(_arm({"refusals": Seen(events=90, total=400)}))
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.INFORMATIVE_WORSE)
    assert _judge(_arm({"refusals": Seen()})).kind is Kind.PROMOTE, "without data it is reported only"


def test_significant_but_too_small_to_matter_does_not_abort() -> None:
    """Many values make any difference significant; the effect size says whether it matters."""
    slower = _judge(_arm({"latency_ms": Seen(values=tuple(value + 60 for value in LATENCIES))}))
    [latency] = [finding for finding in slower.findings if finding.metric == "latency_ms"]
    assert latency.p is not None
    assert latency.p < slower.level
    assert latency.effect is not None
    assert latency.effect < 0.60
    assert slower.kind is not Kind.ABORT


@pytest.mark.parametrize(("stage", "needed"), [(1, 59), (2, 149), (3, 299)])
def test_too_few_requests_hold_and_say_how_many_are_needed(stage: int, needed: int) -> None:
    few = _judge(_arm({"errors": Seen(events=0, total=57)}), stage=stage)
    assert (few.kind, few.rule) == (Kind.HOLD, Rule.UNPROVEN)
    assert f"errors: 57 of {needed} canary requests seen" in few.message
    assert few.missing == needed - 57
    clean = {"errors": Seen(events=0, total=needed)}
    assert _judge(_arm(clean), _arm(clean), stage=stage).kind is Kind.PROMOTE
    assert _judge(_arm(clean), _arm({"errors": Seen(events=0, total=needed - 1)}), stage=stage).kind is Kind.HOLD


def test_errors_that_leave_the_margin_open_hold_and_say_how_many_more() -> None:
    verdict = _judge(stage=3)
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.UNPROVEN)
    assert "could still be" in verdict.message
    more = {"errors": Seen(events=12, total=2_400)}
    assert 0 < verdict.missing <= 2_000
    assert _judge(_arm(more), _arm(more), stage=3).kind is Kind.PROMOTE


@pytest.mark.parametrize(
    "seen", [None, Seen(), Seen(events=0, total=0), Seen(events=math.nan, total=400), Seen(events=5, total=4)]
)
@pytest.mark.parametrize("arm", ["canary", "stable"])
def test_no_data_and_nonsense_hold(arm: str, seen: Seen | None) -> None:
    metrics = {name: each for name, each in GOOD.items() if name != "errors"} | ({"errors": seen} if seen else {})
    verdict = _judge_arm(arm, Arm(began=BEGAN, until=NOW, metrics=metrics))
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.UNPROVEN)
    assert f"in the {arm} arm" in verdict.message


@pytest.mark.parametrize("value", [math.nan, math.inf, None, -1.0])
def test_a_cost_that_is_no_amount_holds(value: float | None) -> None:
    assert _judge(_arm({"cost_usd": Seen(values=(*COSTS, value))})).kind is Kind.HOLD


@pytest.mark.parametrize("arm", ["canary", "stable"])
def test_a_missing_arm_holds(arm: str) -> None:
    seen = {"stage": 1, "look": 1, "rollout_began": BEGAN, "canary": _arm(), "stable": _arm(), arm: None}
    verdict = judge(RULES, Observations.model_validate(seen), NOW)
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.ARM_MISSING)


def test_five_errors_and_more_than_a_fifth_abort_at_once_without_the_stable_arm() -> None:
    for events, total, stopped in ((5, 24, True), (5, 25, False), (4, 4, False)):
        canary = _arm({"errors": Seen(events=events, total=total)})
        seen = Observations(stage=1, look=1, rollout_began=BEGAN, canary=canary)
        assert (judge(RULES, seen, NOW).rule is Rule.FAILURE_FLOOR) is stopped


@pytest.mark.parametrize("arm", ["canary", "stable"])
def test_telemetry_that_is_lost_aborts(arm: str) -> None:
    for silent, lost in ((121, True), (20, False)):
        verdict = _judge_arm(arm, _arm(until=NOW - timedelta(seconds=silent)))
        assert (verdict.rule is Rule.TELEMETRY_LOST) is lost
        assert (verdict.kind is Kind.ABORT) is lost


def test_a_metric_that_falls_silent_aborts() -> None:
    without = Arm(began=BEGAN, until=NOW, metrics={name: seen for name, seen in GOOD.items() if name != "errors"})
    verdict = _judge(without, seen_before=Observations(stage=1, look=1, rollout_began=BEGAN, canary=_arm()).with_data())
    assert (verdict.kind, verdict.rule) == (Kind.ABORT, Rule.TELEMETRY_LOST)
    assert "errors" in verdict.message


@pytest.mark.parametrize(
    "times",
    [
        {"began": BEGAN + timedelta(minutes=3), "until": NOW + timedelta(minutes=3)},  # its clock is ahead
        {"began": BEGAN - timedelta(minutes=3)},  # counted from before the rollout
        {"began": BEGAN + timedelta(minutes=5)},  # not the same minutes
        {"until": NOW - timedelta(seconds=60)},
        {"began": NOW, "until": BEGAN + timedelta(minutes=19)},
    ],
)
@pytest.mark.parametrize("arm", ["canary", "stable"])
def test_arms_of_different_times_are_not_compared(arm: str, times: dict[str, Any]) -> None:
    verdict = _judge_arm(arm, _arm(**times))
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.CLOCKS_DIFFER)


def test_a_rollout_ends_by_time_and_by_looks() -> None:
    late = BEGAN + timedelta(minutes=RULES.judging.total_minutes)
    arms = _arm(until=late), _arm(until=late)
    assert (_judge(*arms, now=late).kind, _judge(*arms, now=late).rule) == (Kind.ABORT, Rule.TIME_CAP)
    looks = RULES.stages[0].looks or 0
    assert _judge(look=looks).kind is Kind.PROMOTE
    assert (_judge(look=looks + 1).kind, _judge(look=looks + 1).rule) == (Kind.ABORT, Rule.LOOKS_USED_UP)


def test_a_stage_has_its_time_however_good_it_looks() -> None:
    soon = BEGAN + timedelta(minutes=2)
    verdict = _judge(_arm(until=soon), _arm(until=soon), now=soon)
    assert (verdict.kind, verdict.rule) == (Kind.HOLD, Rule.TOO_SHORT)


def test_all_traffic_is_watched_and_not_compared() -> None:
    def watched(arm: Arm, now: datetime = NOW) -> Verdict:
        return judge(RULES, Observations(stage=4, look=9, rollout_began=BEGAN, canary=arm), now)

    assert watched(_arm()).kind is Kind.PROMOTE
    assert watched(_arm(until=BEGAN + timedelta(minutes=2)), BEGAN + timedelta(minutes=2)).rule is Rule.TOO_SHORT
    assert watched(Arm(began=BEGAN, until=NOW)).rule is Rule.UNPROVEN
    assert watched(_arm({"errors": Seen(events=90, total=400)})).rule is Rule.FAILURE_FLOOR
    assert watched(_arm(until=BEGAN)).rule is Rule.TELEMETRY_LOST


def test_a_stage_that_is_not_there_is_named() -> None:
    with pytest.raises(NoSuchStage, match="has 4"):
        _judge(stage=5)


NUMBERS = st.one_of(st.none(), st.floats(), st.integers(-3, 500).map(float))
SEEN = st.builds(Seen, events=NUMBERS, total=NUMBERS, values=st.none() | st.lists(NUMBERS, max_size=60).map(tuple))
METRICS = st.dictionaries(st.sampled_from([*GOOD, "unknown"]), SEEN | st.sampled_from([*GOOD.values()]))
MOMENTS = st.datetimes(datetime(2026, 1, 5, 11), datetime(2026, 1, 5, 17), timezones=st.just(UTC))  # noqa: DTZ001
ARMS = st.none() | st.builds(Arm, began=st.just(BEGAN) | MOMENTS, until=st.just(NOW) | MOMENTS, metrics=METRICS)


@given(ARMS, ARMS, st.integers(1, 4), st.integers(1, 8), MOMENTS | st.just(NOW))
def test_whatever_is_seen_there_is_one_verdict_and_promotion_has_evidence(
    canary: Arm | None, stable: Arm | None, stage: int, look: int, now: datetime
) -> None:
    seen = Observations(stage=stage, look=look, rollout_began=BEGAN, canary=canary, stable=stable)
    verdict = judge(RULES, seen, now)
    assert verdict == judge(RULES, seen, now)
    if verdict.kind is Kind.PROMOTE:
        assert canary is not None
        assert stage == 4 or all(f.outcome == "within_margin" for f in verdict.findings if f.criticality == "critical")
