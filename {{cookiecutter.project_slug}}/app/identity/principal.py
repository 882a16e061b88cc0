"""Who is calling, with what permissions: computed from the directory, never from a payload."""

from dataclasses import dataclass
from datetime import datetime

from app.errors import Forbidden


@dataclass(frozen=True)
class Principal:
    tenant_id: str
    member_id: str
    name: str
    roles: frozenset[str]
    permissions: frozenset[str]
    key_id: str
    expires_at: datetime | None = None  # of its credential
    scopes: frozenset[str] | None = None  # what its key is limited to; None: everything the roles grant
    lent: frozenset[str] = frozenset()  # permissions that only a lent role gives, see `elevations`
    hands: frozenset[str] | None = None  # members its key has gone through; None: not on record

    @property
    def own(self) -> frozenset[str]:
        """What is held for good: only this is ever compared with what somebody gives to others."""
        return self.permissions - self.lent

    @property
    def persons(self) -> frozenset[str] | None:
        """Every member who may be behind this credential; None where nobody can say."""
        return None if self.hands is None else self.hands | {self.member_id}

    @property
    def issuer_chain(self) -> list[str] | None:
        """Who else may hold this credential, as it is stored with what was asked for by it."""
        return None if self.hands is None else sorted(self.hands)

    def can(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise Forbidden unless the permission is held."""
        if not self.can(permission):
            raise Forbidden

    def require_not_above(self, permissions: frozenset[str]) -> None:
        """Raise Forbidden where a key with scopes would give, or have a say over, what it may not do itself."""
        if self.scopes is not None and not self.own.issuperset(permissions):
            raise Forbidden("A key with scopes gives and changes only what it may do itself.")
