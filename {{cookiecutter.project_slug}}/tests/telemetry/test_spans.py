"""What leaves as a span: neither an address's query nor what logs would not have (fault 9)."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.types import Message

from app.entrypoints.web import create_app
from app.settings import load_settings
from app.telemetry.spans import ScrubbingExporter

MAIL = "ada@mail.example"


@pytest.fixture
def exported() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(ScrubbingExporter(memory)))
    yield provider, memory
    provider.shutdown()


def _said(spans: tuple[ReadableSpan, ...]) -> str:
    assert spans
    return "\n".join(span.to_json() for span in spans)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/console/signed-in", "code=SplxlOBeZQQYbYS6WxSbIA&state=af0ifjsldkj"), ("/v1/runs", "cursor=a%40b.org"),
        ("/health/live", "next=https://x.example/?who=a@b.org"), ("/nothing/here", "code=SplxlOBeZQQYbYS6WxSbIA"),
        ("/v1/runs", "cursor='code=SplxlOBeZQQYbYS6WxSbIA'"),
        ("/v1/runs", 'cursor=a\\"<x> code=SplxlOBeZQQYbYS6WxSbIA'),
    ],
)  # fmt: skip
def test_a_request_leaves_no_query_in_its_spans(
    exported: tuple[TracerProvider, InMemorySpanExporter], path: str, query: str
) -> None:
    """fault 9: over the app that is served, instrumented as it is."""
    provider, memory = exported
    app = create_app(load_settings(environment="test"))
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"], tracer_provider=provider)
    headers = [(b"host", b"service.example"), (b"tracestate", f"a={MAIL}".encode()), (b"user-agent", MAIL.encode())]
    headers += [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
    scope: dict[str, Any] = {
        "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": query.encode(),
        "headers": headers, "scheme": "http", "http_version": "1.1", "server": ("service.example", 80),
        "asgi": {"version": "3.0"}, "client": ("203.0.113.77", 40_000), "root_path": "", "state": {},
    }  # fmt: skip

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(_message: Message) -> None:
        return None

    async def ask() -> None:
        with suppress(Exception):  # an app without a runtime: what it raises is in the span as well
            await app(scope, receive, send)

    asyncio.run(ask())
    said = _said(memory.get_finished_spans())
    assert path in said
    for part in (query, *query.split("&"), "Splxl", "af0if", "b.org", MAIL, "203.0.113.77"):
        assert part not in said


def test_every_part_of_a_span_is_scrubbed(exported: tuple[TracerProvider, InMemorySpanExporter]) -> None:
    """fault 9, for what is sent to others and for a database: attributes, events, links, status and name."""
    provider, memory = exported
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span(f"GET /a?who={MAIL}") as span:
        span.set_attributes({
            "url.full": f"https://api.example/v1/x?key=abc&who={MAIL}#part", "url.query": "key=abc",
            "http.url": "/a?key=abc", "http.target": "/a?key=abc", "http.request.header.authorization": ["Bearer abc"],
            "server.port": 443,
            "db.query.text": f"SELECT 1 WHERE mail = '{MAIL}'", "gen_ai.usage.tokens": 7,
            "db.statement": "SELECT a FROM b WHERE c = ?",
        })  # fmt: skip
        span.add_event("exception", {"exception.message": f"no {MAIL} at redis://:abc@cache.example/0"})
        span.set_status(StatusCode.ERROR, f"GET https://api.example/x?key=abc failed for {MAIL}")
        span.add_link(
            trace.SpanContext(1, 2, is_remote=True, trace_state=trace.TraceState([("a", "abc")])), {"to": MAIL}
        )
    [span_sent] = memory.get_finished_spans()
    said = _said((span_sent,))
    assert "abc" not in said
    assert MAIL not in said
    attributes = dict(span_sent.attributes or {})
    assert attributes["url.full"] == "https://api.example/v1/x"
    assert attributes["db.statement"] == "SELECT a FROM b WHERE c = ?"
    assert (attributes["server.port"], attributes["gen_ai.usage.tokens"]) == (443, 7)
    assert not any(link.context.trace_state for link in span_sent.links)
