from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


class DatabaseEnvironment(Base):
    """The one environment that this database belongs to: a single row, see `app.db.database_environment`."""

    __tablename__ = "database_environment"

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    environment: Mapped[str] = mapped_column(String(20))
    recorded_at: Mapped[datetime]
