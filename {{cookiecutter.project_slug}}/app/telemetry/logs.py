"""Logs with the request's id and without content: one line of JSON an event, or text for a person at a terminal.

Both are scrubbed before they are written in either form. Gate: observability, validation.
"""

import logging
import sys
from typing import Any, Literal

import structlog
from structlog.types import EventDict, Processor

from app.telemetry.redaction import scrub

# Of who was refused: an operator must be able to shut an address out. Set by `api/guards` alone.
KEPT = frozenset({"address"})


def _scrubbed(_logger: object, _method: str, event: EventDict) -> EventDict:
    clean: dict[str, Any] = scrub({name: value for name, value in event.items() if name not in KEPT})
    return clean | {name: value for name, value in event.items() if name in KEPT}


def configure_logs(level: str, form: Literal["json", "text"] = "json") -> None:
    """Send this service's events and the standard library's through the same processors to stderr."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _scrubbed,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )
    written: list[Processor] = [_on_one_line, _as_text()] if form == "text" else [structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *written,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.getLevelNamesMapping()[level.upper()]
    # The database's driver would write down every value that it stores.
    # Each of the two servers of a process would tell of its start; the process says itself where it listens.
    for noisy in ("httpx2", "httpcore2", "uvicorn.access", "uvicorn.error", "alembic", "dbos", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("dbos").addFilter(_is_a_warning)


def _as_text() -> structlog.dev.ConsoleRenderer:
    # Values are quoted, so that none of them can end a line or steer the terminal.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
    )


def _on_one_line(_logger: object, _method: str, event: EventDict) -> EventDict:
    """What the renderer writes as it is: the event, in one line, and an exception with its line breaks."""
    for name, kept in (("event", ""), ("exception", "\n")):
        if name in event:
            event[name] = "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in str(event[name]))
    return event


def _is_a_warning(record: logging.LogRecord) -> bool:
    """An agent has the steps of its model once for each tier that it may use, under one name so that any takes over."""
    text = record.getMessage()
    return not (text.startswith("Duplicate registration of function") and "__model." in text)
