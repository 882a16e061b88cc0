"""Four-eyes rule: nobody may be behind both sides of a decision. Gate: access, security.

Each credential has possible holders: its member, and every member who has seen its secret before (the issuer chain).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from app.audit import trail
from app.db.engine import Database
from app.errors import Forbidden
from app.identity.principal import Principal

Rule = Literal["distinct possible holders", "distinct members only"]
DISTINCT_HOLDERS: Rule = "distinct possible holders"
DISTINCT_MEMBERS: Rule = "distinct members only"
OWN_REQUEST = "You asked for this; another person must decide."
REMEDY = (
    "sign in at the identity provider, with a key that you issued yourself there, or with keys that the platform's "
    "operator handed out (app keys issue)."
)
SHARED_HOLDER = (
    "One person may hold both the key of the one who asked and yours, because they issued or rotated it. Decide with a "
    f"credential that only you hold: {REMEDY}"
)
NOT_ON_RECORD = (
    "It is not on record who issued the key of the one who asked, or yours. Ask and decide with new credentials: "
    f"{REMEDY}"
)


@dataclass(frozen=True)
class Asker:
    """Who asked, and with what: as it was then, because keys are rotated and revoked meanwhile."""

    member_id: str
    issuer_chain: Sequence[str] | None  # members besides the asker who may hold the credential; None: not on record

    @property
    def possible_holders(self) -> frozenset[str] | None:
        return None if self.issuer_chain is None else frozenset({*self.issuer_chain, self.member_id})


def rule_between(asker: Asker, decider: Principal, *, strict: bool) -> Rule:
    """The rule under which `asker` and `decider` are two people.

    With `strict`, no member may be a possible holder of both credentials. Raises Forbidden, which says what to do."""
    if asker.member_id == decider.member_id:
        raise Forbidden(OWN_REQUEST)
    asking, deciding = asker.possible_holders, decider.persons
    if asking is None or deciding is None:
        problem = NOT_ON_RECORD
    elif asking.isdisjoint(deciding):
        return DISTINCT_HOLDERS
    else:
        problem = SHARED_HOLDER
    if strict:
        raise Forbidden(problem)
    return DISTINCT_MEMBERS


async def require_another_person(db: Database, decider: Principal, asker: Asker, subject: str, *, strict: bool) -> Rule:
    """The same, with a refusal on record in the tenant's audit trail. `subject` is what would be decided about."""
    try:
        return rule_between(asker, decider, strict=strict)
    except Forbidden:
        async with db.transaction(decider) as session:
            await trail.append(
                session, decider.tenant_id, decider.member_id, "access.denied", subject, needs="another person",
                rule=DISTINCT_HOLDERS if strict else DISTINCT_MEMBERS,
            )  # fmt: skip
        raise
