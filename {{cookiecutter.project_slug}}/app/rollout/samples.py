"""Two samples of measurements: is one higher, and by how much at most. Latencies by ranks, costs by their means.

Written here because no kept package without NumPy has them; the tests hold them to their definitions and to SciPy's
figures. Gate: deployment.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import NormalDist, fmean

Values = Sequence[float]
SIMULATIONS = 9_999  # p can be as small as 1/10,000
ENOUGH_EXCEEDED = 20  # p is then known to about a fifth of itself


@dataclass(frozen=True)
class RankComparison:
    """`cles`: in how large a share of pairs (canary, stable) the canary's value is the higher, ties counted half."""

    cles: float
    error: float  # standard error of cles
    p: float  # one-sided: the canary's values are not higher


def mann_whitney(canary: Values, stable: Values) -> RankComparison:
    """Mann-Whitney's U test (1947) with its effect size, the common language effect size U / (n m).

    p is the normal approximation with corrections for ties and continuity (Lehmann 1975, Nonparametrics, section 1.5),
    good from about 20 values per arm on. The standard error is DeLong's (1988, Biometrics 44:837), which also holds
    where the samples differ; needs two values per arm."""
    n, m = len(canary), len(stable)
    in_both, tie_sizes = _midranks((*canary, *stable))
    placed_c = [(all_ - own) / m for all_, own in zip(in_both[:n], _midranks(canary)[0], strict=True)]
    placed_s = [(all_ - own) / n for all_, own in zip(in_both[n:], _midranks(stable)[0], strict=True)]
    cles = fmean(placed_c)
    ties = sum(size**3 - size for size in tie_sizes)
    deviation = math.sqrt(n * m / 12 * (n + m + 1 - ties / ((n + m) * (n + m - 1))))
    excess = cles * n * m - n * m / 2 - 0.5
    p = NormalDist().cdf(-excess / deviation) if deviation else 1.0
    return RankComparison(cles, math.sqrt(_variance(placed_c) / n + _variance(placed_s) / m), p)


def _midranks(values: Values) -> tuple[list[float], list[int]]:
    """The rank of each value from 1 on, equal ones sharing the mean of theirs; and how many were equal each time."""
    ranks, sizes, before = [0.0] * len(values), [], 0
    for _, group in groupby(sorted(range(len(values)), key=values.__getitem__), key=values.__getitem__):
        equal = list(group)
        for index in equal:
            ranks[index] = before + (len(equal) + 1) / 2
        before += len(equal)
        sizes.append(len(equal))
    return ranks, sizes


def _variance(values: Values) -> float:
    """The sample variance; the standard library's is exact by fractions, and ten times slower."""
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


@dataclass(frozen=True)
class MeanRatio:
    """mean(canary) / mean(stable), both at least 0; infinite where only the stable mean is 0."""

    ratio: float
    error: float  # standard error of its logarithm

    def upper(self, z: float) -> float:
        return self.ratio * math.exp(z * self.error)


def mean_ratio(canary: Values, stable: Values) -> MeanRatio:
    """The ratio of two means of values >= 0, with the standard error of its logarithm.

    The log response ratio of Hedges, Gurevitch and Curtis 1999, Ecology 80:1150. Needs two values per arm."""
    mean_c, mean_s = fmean(canary), fmean(stable)
    if not (mean_c and mean_s):
        return MeanRatio(math.inf if mean_c else float(mean_s == 0), 0.0)
    relative = [_variance(values) / len(values) / fmean(values) ** 2 for values in (canary, stable)]
    return MeanRatio(mean_c / mean_s, math.sqrt(sum(relative)))


def permutation_greater(canary: Values, stable: Values, *, seed: int, simulations: int = SIMULATIONS) -> float:
    """One-sided p of the permutation test for means: the canary's mean is as high by chance of who got which arm.

    Monte Carlo with `simulations` draws at most, (exceeded + 1) / (draws + 1), so never 0 (Phipson and Smyth 2010). It
    ends early once the mean was reached 20 times: p is then 20 / draws (Besag and Clifford 1991, Biometrika 78:301),
    which is exact too. The same seed gives the same p."""
    # The smaller arm is drawn: its sum decides the other's.
    drawn, sign = (canary, 1.0) if len(canary) <= len(stable) else (stable, -1.0)
    pool, size = [*canary, *stable], len(drawn)
    reached = sign * math.fsum(drawn)
    tolerance = 1e-12 * math.fsum(pool)  # the same values in another order are the same sum
    # S311 is about secrets; a permutation needs a generator that can be repeated.
    draw, exceeded = random.Random(seed), 0  # noqa: S311
    for draws in range(1, simulations + 1):
        exceeded += sign * sum(draw.sample(pool, size)) >= reached - tolerance
        if exceeded == ENOUGH_EXCEEDED:
            return exceeded / draws
    return (exceeded + 1) / (simulations + 1)
