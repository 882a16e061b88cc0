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

    def can(self, permission: str) -> bool:
        return permission in self.permissions

    def require(self, permission: str) -> None:
        """Raise Forbidden unless the permission is held."""
        if not self.can(permission):
            raise Forbidden
