"""Prometheus metrics. Labels are bounded: no tenant, user, run or other open-ended value. Gate: observability."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import product

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric

REGISTRY = CollectorRegistry()

HTTP_REQUESTS = Counter("http_requests_total", "Answered requests", ["method", "route", "status"], registry=REGISTRY)
HTTP_SECONDS = Histogram("http_request_seconds", "Time to answer", ["route"], registry=REGISTRY)
ERRORS = Counter("app_errors_total", "Errors answered, by catalogue code", ["code"], registry=REGISTRY)
AUTH_REFUSED = Counter("app_auth_refused_total", "Credentials refused, by reason", ["reason"], registry=REGISTRY)
AUTH_DENIED = Counter("app_auth_denied_total", "Requests that a permission was missing for", registry=REGISTRY)
LIMIT_STORAGE_FAILURES = Counter(
    "app_rate_limit_storage_failures_total",
    "Failed or slow questions to the shared rate limit storage; this process counts for itself meanwhile",
    registry=REGISTRY,
)
BODY_BYTES = Gauge("http_request_body_bytes", "Bytes of request bodies that this process holds", registry=REGISTRY)
STALLED_CONNECTIONS = Counter(
    "http_stalled_connections_total", "Connections ended because their client did not read", registry=REGISTRY
)
RUNS = Counter("ai_runs_total", "Runs that ended, by outcome", ["feature", "outcome"], registry=REGISTRY)
MODEL_CALLS = Counter("ai_model_calls_total", "Attempts at a provider", ["model", "outcome"], registry=REGISTRY)
MODEL_RETRIES = Counter("ai_model_retries_total", "Requests asked again", ["model"], registry=REGISTRY)
MODEL_FALLBACKS = Counter(
    "ai_model_fallbacks_total", "Answers of a model that stood in for another", ["model"], registry=REGISTRY
)
ANSWERED_AS_ANOTHER = Counter(
    "ai_model_answered_as_another_total", "Answers that name another model than was asked", ["model"], registry=REGISTRY
)
CACHED_ANSWERS = Counter(
    "ai_cached_answers_total", "Answers given again, within their time or past it", ["model", "age"], registry=REGISTRY
)
MODEL_RETIRES = Gauge(
    "ai_model_retires_timestamp_seconds",
    "When a model's provider withdraws it, where known",
    ["model"],
    registry=REGISTRY,
)
BREAKER_OPEN = Gauge("ai_breaker_open", "1 while a model is left alone", ["model"], registry=REGISTRY)
MODEL_COST_USD = Counter("ai_cost_usd_total", "Cost of model calls in US dollars", ["model"], registry=REGISTRY)
BUDGET_THRESHOLDS = Counter(
    "ai_budget_thresholds_total", "Caps that passed a part of what they allow", ["scope", "percent"], registry=REGISTRY
)
BUDGET_LOOKS = Counter("ai_budget_looks_total", "Looks at where spend is going", registry=REGISTRY)
BUDGET_BURN = Gauge(
    "ai_budget_burn",
    "A day at the last hour's pace, by what a day may cost: the worst of a scope",
    ["scope"],
    registry=REGISTRY,
)
BUDGET_FORECAST = Gauge(
    "ai_budget_forecast",
    "Spend at the window's end at the pace of four hours, by the cap: the worst of a scope",
    ["scope"],
    registry=REGISTRY,
)
USAGE_DISPUTED = Counter(
    "ai_usage_disputed_total",
    "Usage reports beyond what the call can have used; booked at its worst case",
    registry=REGISTRY,
)
COST_OVER_HOLD = Counter("ai_cost_over_hold_total", "Calls that cost more than was held", registry=REGISTRY)
TOOL_SERVER_CHANGED = Counter(
    "ai_tool_server_changed_total",
    "Calls refused because a tool server differs from its pin",
    ["server"],
    registry=REGISTRY,
)
TOOL_OUTCOME_UNKNOWN = Gauge(
    "ai_tool_outcome_unknown", "Tool calls whose outcome nobody knows yet and nobody has looked into", registry=REGISTRY
)
APPROVAL_AGE = Gauge(
    "ai_approval_oldest_pending_seconds", "Age of the oldest question waiting for a person", registry=REGISTRY
)

# A labelled series exists from the start: `increase()` does not see the step from no series to a first value.
for scope, percent in product(("global", "tenant", "member", "run"), ("50", "80", "100")):
    BUDGET_THRESHOLDS.labels(scope, percent)
for scope in ("global", "tenant", "member"):
    BUDGET_BURN.labels(scope)
    BUDGET_FORECAST.labels(scope)

# Set by the housekeeping of workers. A process that does none would show them as zero, and all as well.
HOUSEKEEPING = frozenset(
    {"ai_approval_oldest_pending_seconds", "ai_tool_outcome_unknown", "ai_budget_burn", "ai_budget_forecast"}
    | {"ai_budget_looks"}
)


@dataclass(frozen=True)
class Without:
    """The metrics of this process but those of work that it does not do."""

    names: Collection[str]

    def collect(self) -> Iterable[Metric]:
        return (metric for metric in REGISTRY.collect() if metric.name not in self.names)


RETENTION_DELETED = Counter(
    "ai_retention_deleted_total", "Rows, or contents of rows, deleted by retention", ["kind"], registry=REGISTRY
)
RETENTION_FINISHED = Gauge(
    "ai_retention_finished_timestamp_seconds", "When retention last had nothing left to delete", registry=REGISTRY
)
