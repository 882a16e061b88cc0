"""Roles are data: config/roles.toml maps a role to permissions; what is not declared is denied.

Gate: access.
"""

import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

DEFAULT_ROLES: dict[str, list[str]] = {
    "viewer": ["runs:read", "usage:read"],
    "member": ["runs:read", "runs:write", "usage:read"],
    "approver": ["runs:read", "approvals:read", "approvals:decide"],
    "admin": ["runs:read", "usage:read", "keys:write", "members:read", "members:write", "budgets:write", "audit:read"],
    "platform_operator": ["switches:read", "switches:write", "tenants:read", "tenants:write"],
}
PLATFORM_PERMISSIONS = frozenset({"switches:read", "switches:write", "tenants:read", "tenants:write"})


class RolesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")
    roles: dict[str, list[str]] = Field(default_factory=dict)


class Roles:
    def __init__(self, table: dict[str, frozenset[str]]) -> None:
        self._table = table

    @classmethod
    def load(cls, path: Path) -> "Roles":
        """Read the file over the defaults: a role in the file replaces the default of that name."""
        declared = RolesFile.model_validate(tomllib.loads(path.read_text())).roles if path.exists() else {}
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

    def permissions(self, roles: list[str]) -> frozenset[str]:
        """The union of what the roles grant; an undeclared role grants nothing."""
        return frozenset().union(*(self._table.get(role, frozenset()) for role in roles))
