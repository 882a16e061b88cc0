"""How a run ended, in one word: a refusal, a cut answer or a limit is an outcome of its own, and no fault of ours.

Gate: errors.
"""

from typing import Literal

from app.errors import (
    AppError,
    BudgetExceeded,
    ModelRefused,
    ModelTruncated,
    RunCancelled,
    RunLimitExceeded,
)
from app.runs.models import Run

Outcome = Literal["succeeded", "refused", "truncated", "limit", "budget", "cancelled", "failed"]
_BY_ERROR: dict[type[AppError], Outcome] = {
    ModelRefused: "refused",
    ModelTruncated: "truncated",
    RunLimitExceeded: "limit",
    BudgetExceeded: "budget",
    RunCancelled: "cancelled",
}
_BY_CODE = {kind.row.code: word for kind, word in _BY_ERROR.items()}


def outcome(run: Run) -> Outcome | None:
    """None while the run goes on."""
    if run.ended_at is None:
        return None
    return "succeeded" if run.state == "succeeded" else _BY_CODE.get(run.error_code or "", "failed")
