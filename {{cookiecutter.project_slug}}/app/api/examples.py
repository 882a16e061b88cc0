"""An example of every body that this API takes, for whoever reads its contract and for what tests by it."""

from collections.abc import Mapping, Sequence
from typing import Any

_AN_ID = "01a1f2c4-0000-7000-8000-000000000000"
_A_DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_WHY = "seen with the customer"
_DECISION = {"decision": "approve", "digest": _A_DIGEST, "reason": _WHY}
_DOCUMENT = {"name": "letter.txt", "text": "The heating has been off since Monday."}


def examples(known: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """By the name of the body. `known` are the features, roles and permissions of this very service."""
    roles, lendable = list(known["roles"])[:1], list(known["lendable roles"])[:1]
    found: dict[str, dict[str, Any]] = {
        "Document": _DOCUMENT,
        "Cancellation": {"reason": "no longer needed"},
        "ApprovalDecision": _DECISION,
        "Decisions": {"items": [{"id": _AN_ID, **_DECISION}]},
        "Resolution": {"outcome": "happened", "reason": "the parcel is on its way"},
        "BudgetUpdate": {"scope": "tenant", "limit_usd": "15.00", "reason": "a quiet month"},
        "KeyCreate": {"member_id": _AN_ID, "days": 30},
        "OwnKeyCreate": {"days": 30},
        "KeyClaimCreate": {"days": 30, "open_hours": 24},
        "KeyClaimRedemption": {"claim": f"claim_{'A' * 43}"},
        "KeyRotation": {"overlap_hours": 24},
        "MemberCreate": {"name": "Ada", "roles": roles},
        "MemberChange": {"disabled": False},
        "TenantCreate": {"name": "Acme"},
        "TenantChange": {"tier": None},
        "ElevationDecision": {"decision": "approve", "reason": _WHY},
        "SwitchUpdate": {"state": "off", "reason": "the provider is well again"},
    }
    if lendable:
        found["ElevationCreate"] = {"role": lendable[0], "minutes": 30, "reason": "the queue is stuck"}
    for model in list(known["models"])[:1]:
        said = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the time in Lisbon?"}]
        found["ChatCompletionCreate"] = {"model": model, "messages": said, "max_completion_tokens": 200}
        asked = {"instructions": "Be brief.", "input": "What is the time in Lisbon?", "max_output_tokens": 200}
        found["ResponseCreate"] = {"model": model, **asked}
    for model in [*known["embedding models"], "text-embedding-3-small"][:1]:
        found["EmbeddingCreate"] = {"model": model, "input": ["The heating is off.", "No hot water."]}
    for feature in list(known["features"])[:1]:
        task = "Find out whether somebody has reported this."
        found["RunCreate"] = {"feature": feature, "task": task, "documents": [_DOCUMENT], "limits": {"model_calls": 5}}
    return found
