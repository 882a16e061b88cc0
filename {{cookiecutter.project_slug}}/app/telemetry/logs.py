"""JSON logs, one line an event, with the request's id and without content. Gate: observability, validation."""

import logging
import sys
from typing import Any

import structlog
from structlog.types import EventDict, Processor

from app.telemetry.redaction import scrub

# Of who was refused: an operator must be able to shut an address out. Set by `api/guards` alone.
KEPT = frozenset({"address"})


def _scrubbed(_logger: object, _method: str, event: EventDict) -> EventDict:
    clean: dict[str, Any] = scrub({name: value for name, value in event.items() if name not in KEPT})
    return clean | {name: value for name, value in event.items() if name in KEPT}


def configure_logs(level: str) -> None:
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
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers, root.level = [handler], logging.getLevelNamesMapping()[level.upper()]
    # The database's driver would write down every value that it stores.
    for noisy in ("httpx2", "httpcore2", "uvicorn.access", "alembic", "dbos", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
