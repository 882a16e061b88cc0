"""What the ledger is asked to do: hold an amount before a call, replace it with the cost after it. Gate: cost."""

from dataclasses import dataclass
from datetime import datetime

from app.budgets.caps import Payer


@dataclass(frozen=True)
class CallPurpose:
    """What a model call is for; recorded with its cost."""

    feature: str
    model: str
    prompt_version: str
    tier: str = ""


@dataclass(frozen=True)
class Used:
    cost_micro: int
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Claim:
    """What a provider reports and cannot have used: booked at the hold's worst case instead, and kept on record."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True)
class Hold:
    """An order to hold an amount in every cap of the payer, or in none."""

    call_id: str
    payer: Payer
    purpose: CallPurpose
    amount_micro: int
    at: datetime
    until: datetime


@dataclass(frozen=True)
class Settlement:
    """An order to replace a hold, if it still is one, with what the call cost."""

    call_id: str
    state: str
    used: Used
    claim: Claim | None = None  # of a disputed one
    outcome: str = ""  # of the call: ok, left, or the code of its error


Order = Hold | Settlement
