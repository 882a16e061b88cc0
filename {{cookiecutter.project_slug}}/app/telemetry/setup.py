"""Sentry and OpenTelemetry, switched on by their settings and silent without them."""

from typing import Any

import sentry_sdk
from opentelemetry import propagate, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from sentry_sdk.types import Event, Hint

from app.errors import AppError
from app.settings import Settings
from app.telemetry.logs import configure_logs
from app.telemetry.redaction import protect, scrub


def before_send(event: Event, hint: Hint) -> Event | None:
    """Drop errors that are a caller's business; scrub the rest, exception texts included."""
    error = (hint.get("exc_info") or (None, None, None))[1]
    if isinstance(error, AppError) and not error.row.page:
        return None
    clean: Any = scrub(dict(event))
    clean.pop("request", None)
    return clean  # type: ignore[no-any-return]


def configure_telemetry(settings: Settings) -> None:
    protect(settings.secrets)
    configure_logs(settings.log_level)
    if settings.sentry_dsn:
        sentry_sdk.init(
            dsn=settings.sentry_dsn,
            environment=settings.environment,
            release=f"{settings.service.name}@{settings.service.version}",
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
            before_send=before_send,
        )
    if settings.otel_exporter_otlp_endpoint:
        provider = TracerProvider(resource=Resource.create({"service.name": settings.service.name}))
        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
        trace.set_tracer_provider(provider)
        # Baggage is whatever a caller writes, and the library logs what of it it cannot read.
        propagate.set_global_textmap(TraceContextTextMapPropagator())
