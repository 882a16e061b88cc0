"""A provider may serve another model than was asked for, as an alias moves on: somebody should know. Gate: deployment.

A dated or numbered version of the model is that model: `gpt-4o` is answered as `gpt-4o-2024-08-06`.
"""

import re

import structlog

from app.telemetry.metrics import ANSWERED_AS_ANOTHER

log = structlog.get_logger(__name__)
# Dates and numbers of a release; not `-5`, which is another model.
_VERSION = re.compile(r"(?:[-@:](?:\d{4}-\d\d-\d\d|\d{3,8}|v\d+(?::\d+)?|latest))+")


def look_at_name(answered: str, asked: str) -> None:
    """Count and log an answer of another model. An answer without a name says nothing."""
    if not answered or is_version_of(answered, asked):
        return
    ANSWERED_AS_ANOTHER.labels(asked).inc()
    log.warning("model.answered_as_another", asked=asked, answered=answered[:100])


def is_version_of(answered: str, asked: str) -> bool:
    """Whether it is the same model, whatever path of a provider's catalogue stands before either name."""
    answered, asked = (name.rpartition("/")[2].casefold() for name in (answered, asked))
    rest = answered.removeprefix(asked)
    return not rest or (rest != answered and _VERSION.fullmatch(rest) is not None)
