"""Models that their provider withdraws on a date: `retires` of config/models.toml. Gate: deployment.

A date that has passed stops a release (`app doctor`) and not a service that runs: a process that a platform restarts at
night must come up, and what its model no longer answers its fallbacks do.
"""

from datetime import UTC, date, datetime, time

from app.gateway.catalog import Catalog
from app.telemetry.metrics import MODEL_RETIRES


class ModelRetired(Exception):
    """A release would start with a model that its provider has withdrawn; the message names it and what to do."""


def retirements(catalog: Catalog) -> dict[str, date]:
    """The dates that are known, by model: the first day without it."""
    entries = (*catalog.tiers.values(), *catalog.embeddings.values())
    return {entry.model: entry.retires for entry in entries if entry.retires is not None}


def retired(catalog: Catalog, today: date) -> dict[str, date]:
    """Those whose date has come."""
    return {model: day for model, day in retirements(catalog).items() if day <= today}


def require_not_retired(catalog: Catalog, today: date) -> None:
    """Raise ModelRetired where a tier or an embedding model of this provider is gone."""
    gone = [f"{model} ({day})" for model, day in retired(catalog, today).items()]
    if gone:
        raise ModelRetired(
            f"config/models.toml: retired by {catalog.provider}: {', '.join(gone)}; name another model, or correct "
            "its date."
        )


def measure(catalog: Catalog) -> None:
    """Set the gauge that an alert compares with the time."""
    for model, day in retirements(catalog).items():
        MODEL_RETIRES.labels(model).set(datetime.combine(day, time(), UTC).timestamp())
