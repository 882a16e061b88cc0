from datetime import datetime
from typing import Any

from sqlalchemy import JSON, String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class CachedAnswer(TenantOwned, Base):
    """An answer that may be given again to the same tenant for the same request, as the provider wrote it.

    It holds placeholders instead of personal data: each request puts its own back."""

    __tablename__ = "cached_answers"

    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    model: Mapped[str] = mapped_column(String(120))
    body: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True, deferred_raiseload=True)
    kept_at: Mapped[datetime]
    fresh_until: Mapped[datetime]
    gone_at: Mapped[datetime] = mapped_column(index=True)
