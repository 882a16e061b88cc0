"""What one version has counted of itself, read from the metrics of its operations port. Gate: deployment.

Prometheus' text format, with its rule for resets: a counter that is lower than before began anew at 0.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Self

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import BaseModel, ConfigDict, Field

NOT_TRAFFIC = frozenset({"/livez", "/readyz"})  # of load balancers and monitors, however little traffic there is
REFUSED = "model.refused"


class ScrapeFailed(Exception):
    """The metrics could not be read or are not metrics; what was seen until now stays as it is."""


class Counters(BaseModel):
    """Counts since the process began, or, as a difference, since an earlier reading."""

    model_config = ConfigDict(frozen=True)

    requests: float = 0
    failed: float = 0  # answered 5xx
    refused: float = 0
    model_calls: float = 0
    fallbacks: float = 0
    latencies: dict[float, float] = Field(default_factory=dict)  # requests by their bucket's upper bound, in seconds

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ScrapeFailed for what is no exposition, or has no requests in it."""
        found: Counter[str] = Counter()
        upto: Counter[float] = Counter()
        try:
            for sample in _samples(text):
                _count(sample, found, upto)
        except (ValueError, KeyError) as error:
            raise ScrapeFailed(f"not Prometheus' text format: {error}") from None
        if not found["metrics"]:
            raise ScrapeFailed("no http_requests_total: not the metrics of a web process of this service")
        bounds = sorted(upto)
        below = [0.0, *(upto[bound] for bound in bounds)]
        latencies = {bound: upto[bound] - less for bound, less in zip(bounds, below, strict=False)}
        return cls(latencies=latencies, **{name: found[name] for name in cls.model_fields if name != "latencies"})

    def since(self, earlier: "Counters") -> "Counters":
        """What was added; everything where the process has begun anew."""
        if self.requests < earlier.requests:
            return self
        return self._combined(earlier, -1)

    def plus(self, more: "Counters") -> "Counters":
        return self._combined(more, 1)

    def _combined(self, other: "Counters", sign: int) -> "Counters":
        mine, others = self.model_dump(), other.model_dump()
        latencies = _combined(mine.pop("latencies"), others.pop("latencies"), sign)
        return Counters(latencies=latencies, **_combined(mine, others, sign))

    def latency_values_ms(self, most: int) -> tuple[float, ...]:
        """A sample of at most `most` values as the histogram has them: each is its bucket's upper bound.

        Two versions have the same buckets, so ranks can be compared; within a bucket all are ties."""
        total = sum(self.latencies.values())
        share = min(1.0, most / total) if total else 0.0
        values: list[float] = []
        taken = due = 0.0
        largest = max((bound for bound in self.latencies if bound != float("inf")), default=0.0)
        for bound, count in sorted(self.latencies.items()):
            due += count * share
            number = round(due - taken)
            taken += number
            values += [1_000 * (2 * largest if bound == float("inf") else bound)] * number
        return tuple(values)


def _samples(text: str) -> Iterator[Sample]:
    for family in text_string_to_metric_families(text):
        yield from family.samples


def _count(sample: Sample, found: "Counter[str]", upto: "Counter[float]") -> None:
    labels, name = sample.labels, sample.name
    found["metrics"] += name.startswith("http_request")
    if name == "http_requests_total" and labels["route"] not in NOT_TRAFFIC:
        found["requests"] += sample.value  # type: ignore[assignment]  # counts are floats in that format
        found["failed"] += sample.value if labels["status"].startswith("5") else 0  # type: ignore[assignment]
    elif name == "http_request_seconds_bucket" and labels["route"] not in NOT_TRAFFIC:
        upto[float(labels["le"])] += sample.value  # type: ignore[assignment]
    elif name == "app_errors_total" and labels["code"] == REFUSED:
        found["refused"] += sample.value  # type: ignore[assignment]
    elif name == "ai_model_calls_total":
        found["model_calls"] += sample.value  # type: ignore[assignment]
    elif name == "ai_model_fallbacks_total":
        found["fallbacks"] += sample.value  # type: ignore[assignment]


def _combined(some: Mapping, others: Mapping, sign: int) -> dict:  # type: ignore[type-arg]
    return {key: max(0.0, some.get(key, 0) + sign * others.get(key, 0)) for key in {**some, **others}}
