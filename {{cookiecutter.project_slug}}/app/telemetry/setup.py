"""Sentry and OpenTelemetry, switched on by their settings and silent without them."""

import sys
from typing import TYPE_CHECKING, Any, Literal

from app.content.phone_numbers import use_regions
from app.errors import AppError
from app.settings import Settings
from app.telemetry.logs import configure_logs
from app.telemetry.redaction import protect, scrub

if TYPE_CHECKING:
    from sentry_sdk.types import Event, Hint


def before_send(event: "Event", hint: "Hint") -> "Event | None":
    """Drop errors that are a caller's business; scrub the rest, exception texts included."""
    error = (hint.get("exc_info") or (None, None, None))[1]
    if isinstance(error, AppError) and not error.row.page:
        return None
    clean: Any = scrub(dict(event))
    clean.pop("request", None)
    return clean  # type: ignore[no-any-return]


def report_exception(error: BaseException) -> None:
    """Send an error to Sentry. Does nothing where `configure_telemetry` had no address of it."""
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None:
        sentry.capture_exception(error)


def configure_telemetry(settings: Settings) -> None:
    protect(settings.secrets)
    use_regions(settings.phone_regions)
    by_default: Literal["json", "text"] = "text" if settings.environment == "development" else "json"
    configure_logs(settings.log_level, settings.log_format or by_default)
    if settings.sentry_dsn:
        import sentry_sdk  # noqa: PLC0415 - most processes report to nobody

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
        from opentelemetry import propagate, trace  # noqa: PLC0415 - most processes export to nobody
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        from app.telemetry.spans import ScrubbingExporter  # noqa: PLC0415

        provider = TracerProvider(resource=Resource.create({"service.name": settings.service.name}))
        endpoint = settings.otel_exporter_otlp_endpoint.rstrip("/") + "/v1/traces"
        provider.add_span_processor(BatchSpanProcessor(ScrubbingExporter(OTLPSpanExporter(endpoint=endpoint))))
        trace.set_tracer_provider(provider)
        # Baggage is whatever a caller writes, and the library logs what of it it cannot read.
        propagate.set_global_textmap(TraceContextTextMapPropagator())
