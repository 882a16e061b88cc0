from datetime import datetime

from sqlalchemy import JSON, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned
from app.identity.layers import Layer


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
    tier: Mapped[str | None] = mapped_column(String(60))  # the strongest of models it may use; None: the default's
    created_at: Mapped[datetime]


class Member(TenantOwned, Base):
    """A person or machine of a tenant, with roles by name from config/roles.toml."""

    __tablename__ = "members"
    __table_args__ = (UniqueConstraint("tenant_id", "name"), UniqueConstraint("issuer", "subject"))

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(120))
    roles: Mapped[list[str]] = mapped_column(JSON)
    issuer: Mapped[str | None] = mapped_column(String(300))  # with the subject: who they are at the provider
    subject: Mapped[str | None] = mapped_column(String(255))
    signed_out_at: Mapped[datetime | None]  # console sessions without a key from before this are over
    elevated_role: Mapped[str | None] = mapped_column(String(60))  # lent, see `elevations`
    elevated_until: Mapped[datetime | None]
    elevated_key: Mapped[str | None] = mapped_column(String(36))  # it goes with; empty: a provider's sign-in
    disabled_at: Mapped[datetime | None]  # by an administrator of the tenant
    operator_disabled_at: Mapped[datetime | None]  # by the platform's operator, who alone takes it back
    created_at: Mapped[datetime]

    @property
    def disabled_by(self) -> list[Layer]:
        """The layers that have shut this member out; while there is one, no credential of theirs is valid."""
        both: list[tuple[Layer, datetime | None]] = [
            ("operator", self.operator_disabled_at),
            ("tenant", self.disabled_at),
        ]
        return [layer for layer, since in both if since is not None]

    def is_elevated(self, now: datetime) -> bool:
        """Whether a role is lent to this member at this moment."""
        return self.elevated_until is not None and now < self.elevated_until


class ApiKey(TenantOwned, Base):
    """A credential. Only the SHA-256 of its secret is stored; the secret is shown once."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    prefix: Mapped[str] = mapped_column(String(24), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str] | None] = mapped_column(JSON)  # None: all its member's permissions
    hands: Mapped[list[str] | None] = mapped_column(JSON)  # members who may have seen it; None: nobody wrote it down
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    signed_out_at: Mapped[datetime | None]  # console sessions from before this are over
    last_used_at: Mapped[datetime | None]  # to a few minutes
    created_at: Mapped[datetime]


class KeyClaim(TenantOwned, Base):
    """A key that its member may take once. Only the SHA-256 of the claim's code is stored; the code is shown once."""

    __tablename__ = "key_claims"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    claim_hash: Mapped[str] = mapped_column(String(64), unique=True)
    scopes: Mapped[list[str] | None] = mapped_column(JSON)  # of the key; None: all its member's permissions
    key_days: Mapped[int]  # how long the key is valid
    created_by: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    redeemed_at: Mapped[datetime | None]
    key_id: Mapped[str | None] = mapped_column(String(36))  # that it became


class Elevation(TenantOwned, Base):
    """A role that a member asked to be lent, and what another person made of it.

    state: asked, lent, refused, ended; past `ends_at` a question and a loan are over whatever is stored."""

    __tablename__ = "elevations"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    key_id: Mapped[str] = mapped_column(String(36))  # it was asked with, and is lent to; empty: a provider's sign-in
    hands: Mapped[list[str]] = mapped_column(JSON)  # the key has gone through
    role: Mapped[str] = mapped_column(String(60))
    minutes: Mapped[int]
    reason: Mapped[str] = mapped_column(String(300))
    state: Mapped[str] = mapped_column(String(10))
    asked_at: Mapped[datetime]
    ends_at: Mapped[datetime]  # of the question while it is open, of the loan from then on
    decided_by: Mapped[str | None] = mapped_column(String(36))
    decided_at: Mapped[datetime | None]
    decision_reason: Mapped[str | None] = mapped_column(String(300))
    ended_at: Mapped[datetime | None]  # early

    def state_at(self, now: datetime) -> str:
        """As stored, or `expired`."""
        return "expired" if self.state in {"asked", "lent"} and self.ends_at <= now else self.state
