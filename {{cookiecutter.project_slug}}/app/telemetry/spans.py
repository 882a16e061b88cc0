"""What of a span leaves for the collector: no query of an address, no secret, no personal data.

Gate: security, validation.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext
from opentelemetry.trace.status import Status

from app.telemetry.redaction import MASK, SENSITIVE_KEYS, scrub

_QUERY = re.compile(r"((?:[a-z][a-z0-9+.-]{1,20}:/|(?<![^\s\"'(=]))/[^\s?#\"'<>]*)[?#][^\s\"'<>]*", re.IGNORECASE)
_IS_ADDRESS = re.compile(r"(?:^|[._])(?:url|target|uri|full|path|referer)$")  # and nothing around it, whatever is in it
_IS_QUERY = re.compile(r"(?:^|[._])(?:query|query_string|fragment)$")


class ScrubbingExporter(SpanExporter):
    """Hands another exporter copies of spans, scrubbed as logs are. A span that has ended cannot be changed."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([scrubbed(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


def scrubbed(span: ReadableSpan) -> ReadableSpan:
    """A copy of a span as the collector may have it: its name, attributes, events, links and status."""
    status = span.status
    return ReadableSpan(
        name=_text(span.name),
        context=_context(span.context),
        parent=_context(span.parent),
        resource=span.resource,
        attributes=_attributes(span.attributes),
        events=[Event(_text(each.name), _attributes(each.attributes), each.timestamp) for each in span.events],
        links=[Link(_context(each.context) or each.context, _attributes(each.attributes)) for each in span.links],
        kind=span.kind,
        status=Status(status.status_code, _text(status.description) if status.description else None),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _context(context: SpanContext | None) -> SpanContext | None:
    """Without the trace state, which is whatever a caller has written into its header."""
    if context is None:
        return None
    return SpanContext(context.trace_id, context.span_id, context.is_remote, context.trace_flags)


def _attributes(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: _value(name, value) for name, value in (attributes or {}).items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if _IS_QUERY.search(name) and not name.startswith("db."):
            return ""
        if _IS_ADDRESS.search(name):
            value = re.split("[?#]", value, maxsplit=1)[0]
        return MASK if SENSITIVE_KEYS.search(name) else _text(value)
    if isinstance(value, list | tuple):
        return [_value(name, item) for item in value]
    return value if isinstance(value, bool | float) else scrub(value)


def _text(text: str) -> str:
    scrubbed: str = scrub(_QUERY.sub(r"\1", text))
    return scrubbed
