"""Roles are data: config/roles.toml maps a role to permissions; what is not declared is denied.

Gate: access.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from app.config_files import read_config
from app.errors import RequestInvalid

ASKS = ["elevations:request", "elevations:read", "elevations:end"]
OWN_KEYS = ["keys:self", "keys:redeem"]  # for who signs in at the identity provider
DEFAULT_ROLES: dict[str, list[str]] = {
    "viewer": ["runs:read", "usage:read", "keys:redeem"],
    "member": ["runs:read", "runs:write", "chat:write", "usage:read", *ASKS, *OWN_KEYS],
    "approver": ["runs:read", "approvals:read", "approvals:decide", *ASKS, *OWN_KEYS],
    "admin": [
        "runs:read", "usage:read", "keys:write", "members:read", "members:write", "budgets:write", "audit:read", *ASKS,
        "elevations:decide", *OWN_KEYS,
    ],
    "platform_operator": ["switches:read", "switches:write", "tenants:read", "tenants:write"],
}  # fmt: skip
PLATFORM_PERMISSIONS = frozenset({"switches:read", "switches:write", "tenants:read", "tenants:write"})
# A lent role never gives these: a key, a member, a cap or another loan would still be there when it is over.
LASTING_PERMISSIONS = frozenset(
    {"keys:write", *OWN_KEYS, "members:write", "budgets:write", "elevations:request", "elevations:decide"}
)


class RolesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    roles: dict[str, list[str]] = Field(default_factory=dict)


class Roles:
    def __init__(self, table: dict[str, frozenset[str]]) -> None:
        self._table = table

    @classmethod
    def load(cls, path: Path) -> "Roles":
        """Read the file over the defaults: a role in the file replaces the default of that name."""
        declared = read_config(path, RolesFile).roles
        return cls({name: frozenset(granted) for name, granted in {**DEFAULT_ROLES, **declared}.items()})

    @property
    def names(self) -> list[str]:
        return sorted(self._table)

    @property
    def all_permissions(self) -> frozenset[str]:
        return self.permissions(self.names)

    def are_platform(self, roles: list[str]) -> bool:
        """Whether these roles reach beyond a tenant: only the platform's own operators give such."""
        return bool(self.permissions(roles) & PLATFORM_PERMISSIONS)

    def require_known(self, roles: list[str]) -> None:
        if set(roles) - set(self.names):
            raise RequestInvalid(f"Unknown role: choose from {', '.join(self.names)}.")

    @property
    def lendable(self) -> list[str]:
        return [role for role in self.names if not self.are_platform([role])]

    def lent(self, role: str) -> frozenset[str]:
        """What a role gives to whom it is lent: nothing that outlasts the loan, nothing beyond the tenant."""
        return self.permissions([role]) - LASTING_PERMISSIONS - PLATFORM_PERMISSIONS

    def permissions(self, roles: list[str]) -> frozenset[str]:
        """The union of what the roles grant; an undeclared role grants nothing."""
        return frozenset().union(*(self._table.get(role, frozenset()) for role in roles))
