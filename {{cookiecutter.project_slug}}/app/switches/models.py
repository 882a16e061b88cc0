from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class Switch(Base):
    """A kill switch that is on. A name without a row is off."""

    __tablename__ = "switches"

    name: Mapped[str] = mapped_column(String(120), primary_key=True)
    reason: Mapped[str] = mapped_column(String(300))
    thrown_by: Mapped[str] = mapped_column(String(80))
    thrown_at: Mapped[datetime]
