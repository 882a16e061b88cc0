"""One metric in two arms: worse, within its margin, or undecided. Gate: deployment."""

import math
from dataclasses import dataclass, replace

from app.rollout.observations import Seen
from app.rollout.proportions import Proportion, fisher_greater, newcombe, one_sided_z, requests_needed
from app.rollout.rules import BinaryMetric, DistributionMetric, FailureFloor, MeanMetric, Metric
from app.rollout.samples import Values, mann_whitney, mean_ratio, permutation_greater
from app.rollout.verdict import Finding, Outcome


@dataclass(frozen=True)
class Bounds:
    """What a comparison is held to at this look."""

    level: float  # p at most this is significant
    confidence: float  # of the one-sided upper bound
    margin_points: float  # of the stage
    seed: int  # of the permutation test


def compare(name: str, metric: Metric, canary: Seen | None, stable: Seen | None, bounds: Bounds) -> Finding:
    """What this metric shows. Nothing, NaN and what cannot be a count are `no_data`; never an exception."""
    if isinstance(metric, BinaryMetric):
        canary_counts, stable_counts = proportion(metric, canary), proportion(metric, stable)
        if canary_counts is None:
            return _no_data(name, metric, canary, "canary")
        if stable_counts is None:
            return _no_data(name, metric, stable, "stable")
        return _binary(name, metric, canary_counts, stable_counts, bounds)
    canary_values, stable_values = usable_values(metric, canary), usable_values(metric, stable)
    if canary_values is None:
        return _no_data(name, metric, canary, "canary")
    if stable_values is None:
        return _no_data(name, metric, stable, "stable")
    return _sampled(name, metric, canary_values, stable_values, bounds)


def _no_data(name: str, metric: Metric, seen: Seen | None, arm: str) -> Finding:
    why = "nothing was seen" if seen is None or seen.is_empty else "what was seen is not a usable number"
    return Finding(name, metric.criticality, Outcome.NO_DATA, f"{name}: {why} in the {arm} arm")


def proportion(metric: BinaryMetric, seen: Seen | None) -> Proportion | None:
    """The bad events of this metric; None where there are none to count or they are not counts."""
    if seen is None or seen.events is None or not seen.total:
        return None
    finite = math.isfinite(seen.events) and math.isfinite(seen.total)
    if not finite or seen.events % 1 or seen.total % 1 or not 0 <= seen.events <= seen.total:
        return None
    events, total = int(seen.events), int(seen.total)
    return Proportion(events if metric.direction == "down" else total - events, total)


def usable_values(metric: DistributionMetric | MeanMetric, seen: Seen | None) -> Values | None:
    """The values; None where there are none, or one of them is no number or, for a mean, negative."""
    if seen is None or not seen.values:
        return None
    values = [value for value in seen.values if value is not None and math.isfinite(value)]
    if len(values) < len(seen.values) or (isinstance(metric, MeanMetric) and min(values) < 0):
        return None
    return values


def floor_reached(metric: Metric, seen: Seen | None) -> tuple[FailureFloor, Proportion] | None:
    """The floor of a metric that the canary has fallen through, judged without the stable arm."""
    if not isinstance(metric, BinaryMetric) or metric.abort_at_once is None:
        return None
    counts, floor = proportion(metric, seen), metric.abort_at_once
    if counts is None or counts.events < floor.events or counts.rate * 100 <= floor.percent:
        return None
    return floor, counts


def _binary(name: str, metric: BinaryMetric, canary: Proportion, stable: Proportion, bounds: Bounds) -> Finding:
    margin = metric.margin_points or bounds.margin_points
    needed = requests_needed(margin, bounds.confidence)
    p = fisher_greater(canary, stable)
    effect = (canary.rate - stable.rate) * 100
    upper = newcombe(canary, stable, one_sided_z(bounds.confidence))[1] * 100
    missing = max(0, needed - canary.total)
    if p <= bounds.level:
        outcome, message = Outcome.WORSE, f"{effect:+.2f} points, p = {p:.2g}"
    elif min(canary.total, stable.total) < needed:
        arm, few = ("canary", canary.total) if missing else ("stable", stable.total)
        outcome, message = Outcome.UNDECIDED, f"{few} of {needed} {arm} requests seen"
    elif upper < margin:
        outcome, message = Outcome.WITHIN_MARGIN, f"at most {upper:.2f} points worse, {margin:g} allowed"
    else:
        outcome, message = Outcome.UNDECIDED, f"could still be {upper:.2f} points worse, {margin:g} allowed"
        missing = _more(canary.total, effect, upper, margin)
    return Finding(
        metric=name,
        criticality=metric.criticality,
        outcome=outcome,
        message=f"{name}: {message}",
        canary=f"{canary.events}/{canary.total}",
        stable=f"{stable.events}/{stable.total}",
        test="Fisher",
        p=p,
        effect=effect,
        upper=upper,
        margin=margin,
        missing=missing,
    )


def _more(total: int, effect: float, upper: float, margin: float) -> int:
    """About how many more requests narrow the bound below the margin if nothing else changes; 0 if none would."""
    if effect >= margin:
        return 0
    return math.ceil(total * ((upper - effect) / (margin - effect)) ** 2) - total


def _sampled(
    name: str, metric: DistributionMetric | MeanMetric, canary: Values, stable: Values, bounds: Bounds
) -> Finding:
    least, few = metric.least_samples, min(len(canary), len(stable))
    finding = Finding(
        metric=name,
        criticality=metric.criticality,
        outcome=Outcome.UNDECIDED,
        message="",
        canary=f"n={len(canary)}",
        stable=f"n={len(stable)}",
    )
    if few < least:
        arm = "canary" if len(canary) < least else "stable"
        message = f"{name}: {few} of {least} {arm} values seen"
        return replace(finding, message=message, missing=max(0, least - len(canary)))
    # Worse is higher from here on: where higher is better, the arms change places.
    worse, than = (canary, stable) if metric.direction == "down" else (stable, canary)
    z, p = one_sided_z(bounds.confidence), None
    if isinstance(metric, DistributionMetric):
        ranks, test, unit = mann_whitney(worse, than), "Mann-Whitney", "CLES"
        effect, upper, margin, p = ranks.cles, ranks.cles + z * ranks.error, metric.margin_cles, ranks.p
    else:
        ratio, test, unit = mean_ratio(worse, than), "permutation", "times the mean"
        effect, upper, margin = ratio.ratio, ratio.upper(z), metric.margin_ratio
        if effect >= margin:  # the test takes seconds, and a smaller effect aborts nothing
            p = permutation_greater(worse, than, seed=bounds.seed)
    if p is not None and p <= bounds.level and effect >= margin:
        outcome, message = Outcome.WORSE, f"{effect:.2f} {unit}, p = {p:.2g}"
    elif upper < margin:
        outcome, message = Outcome.WITHIN_MARGIN, f"at most {upper:.2f} {unit}, {margin:g} allowed"
    else:
        outcome, message = Outcome.UNDECIDED, f"could still be {upper:.2f} {unit}, {margin:g} allowed"
    return replace(
        finding,
        outcome=outcome,
        message=f"{name}: {message}",
        test=test,
        p=p,
        effect=effect,
        upper=upper,
        margin=margin,
    )
