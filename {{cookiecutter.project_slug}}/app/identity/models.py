from datetime import datetime

from sqlalchemy import JSON, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class Tenant(Base):
    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(80), unique=True)
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
    disabled_at: Mapped[datetime | None]
    created_at: Mapped[datetime]


class ApiKey(TenantOwned, Base):
    """A credential. Only the SHA-256 of its secret is stored; the secret is shown once."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    prefix: Mapped[str] = mapped_column(String(24), unique=True)
    secret_hash: Mapped[str] = mapped_column(String(64))
    scopes: Mapped[list[str] | None] = mapped_column(JSON)  # None: all its member's permissions
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    signed_out_at: Mapped[datetime | None]  # console sessions from before this are over
    last_used_at: Mapped[datetime | None]  # to a few minutes
    created_at: Mapped[datetime]
