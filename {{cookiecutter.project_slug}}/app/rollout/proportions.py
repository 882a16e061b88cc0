"""Two proportions: is one higher, and by how much at most. Events of requests in two independent arms.

Written here because no kept package without NumPy has them; the tests hold them to integer arithmetic and to the
published examples. Gate: deployment.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class Proportion:
    """`events` of `total` independent requests."""

    events: int
    total: int

    @property
    def rate(self) -> float:
        return self.events / self.total


def fisher_greater(canary: Proportion, stable: Proportion) -> float:
    """One-sided p of Fisher's exact test: this many events in the canary or more, if both arms had the same rate.

    The tail of the hypergeometric distribution (Fisher 1935, The Design of Experiments, chapter II)."""
    events, both = canary.events + stable.events, canary.total + stable.total
    most = min(events, canary.total)
    term = math.exp(
        _log_choose(events, canary.events)
        + _log_choose(both - events, canary.total - canary.events)
        - _log_choose(both, canary.total)
    )
    p = term
    for k in range(canary.events, most):
        # The ratio of neighbouring terms; once they fall, the rest of the tail is below double precision soon.
        term *= (events - k) * (canary.total - k) / ((k + 1) * (both - events - canary.total + k + 1))
        p += term
    return min(1.0, p)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def wilson(seen: Proportion, z: float) -> tuple[float, float]:
    """Wilson's score interval for one proportion (Wilson 1927), for the standard normal quantile `z`."""
    n, p, z2 = seen.total, seen.rate, z * z
    centre, half = p + z2 / (2 * n), z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


def newcombe(canary: Proportion, stable: Proportion, z: float) -> tuple[float, float]:
    """The interval for rate(canary) - rate(stable): Newcombe's hybrid score interval.

    Method 10 of Newcombe 1998, Statistics in Medicine 17:873-890. Unlike the textbook's interval it keeps a width where
    an arm has seen no event."""
    (low_c, high_c), (low_s, high_s) = wilson(canary, z), wilson(stable, z)
    difference = canary.rate - stable.rate
    low = difference - math.hypot(canary.rate - low_c, high_s - stable.rate)
    high = difference + math.hypot(high_c - canary.rate, stable.rate - low_s)
    return max(-1.0, low), min(1.0, high)  # rounding may pass them by a last digit


def one_sided_z(confidence: float) -> float:
    """The standard normal quantile of a one-sided bound, 1.645 for 0.95."""
    return NormalDist().inv_cdf(confidence)


def requests_needed(margin_points: float, confidence: float = 0.95) -> int:
    """How many requests without an event it takes to say that the rate is below the margin: 59, 149, 299 for 5, 2, 1.

    The smallest n with (1 - margin)^n <= 1 - confidence, the exact binomial bound for no event in n (Hanley and
    Lippman-Hand 1983, JAMA 249:1743, the "rule of three")."""
    return math.ceil(math.log(1 - confidence) / math.log1p(-margin_points / 100))
