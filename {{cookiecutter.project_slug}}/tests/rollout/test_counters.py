"""What is read from the metrics of a version, on the service's own metrics and on what is none."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from app.rollout.counters import Counters, ScrapeFailed


def _metrics(ok: int, failed: int, probes: int = 0) -> str:
    registry = CollectorRegistry()
    requests = Counter("http_requests_total", "", ["method", "route", "status"], registry=registry)
    seconds = Histogram("http_request_seconds", "", ["route"], registry=registry)
    for status, route, number in (("200", "/v1/runs", ok), ("503", "/v1/runs", failed), ("503", "/readyz", probes)):
        requests.labels("GET", route, status).inc(number)
        for _ in range(number):
            seconds.labels(route).observe(0.02 if status == "200" else 30)
    return generate_latest(registry).decode()


def test_probes_are_no_traffic_and_a_failure_is_a_5xx() -> None:
    counters = Counters.parse(_metrics(90, 10, probes=500))
    assert (counters.requests, counters.failed) == (100, 10)
    assert sum(counters.latencies.values()) == 100
    assert counters.latencies[0.025] == 90
    assert counters.latencies[float("inf")] == 10


def test_a_difference_is_what_was_added_and_a_process_that_began_anew_counts_from_zero() -> None:
    first, second = Counters.parse(_metrics(50, 0)), Counters.parse(_metrics(90, 10))
    assert (second.since(first).requests, second.since(first).failed) == (50, 10)
    assert first.since(second).requests == 50
    assert Counters.model_validate_json(second.model_dump_json()) == second, "the state file keeps them"


def test_a_sample_of_latencies_has_the_histogram_s_shares() -> None:
    values = Counters.parse(_metrics(900, 100)).latency_values_ms(50)
    assert (len(values), values.count(25.0)) == (50, 45)
    assert max(values) == 20_000, "beyond the last bound: twice that bound"
    assert Counters().latency_values_ms(50) == ()


@pytest.mark.parametrize("text", ["", "<html>", "http_requests_total{status=\n", "other_total 1\n"])
def test_what_is_no_metrics_is_a_failed_scrape_and_no_zero(text: str) -> None:
    with pytest.raises(ScrapeFailed):
        Counters.parse(text)
