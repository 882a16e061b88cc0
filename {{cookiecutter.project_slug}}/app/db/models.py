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


class SchemaRevision(Base):
    """A migration that the schema has, and the oldest one whose code can work on it: see `app.db.schema_revisions`."""

    __tablename__ = "schema_revisions"

    revision: Mapped[str] = mapped_column(String(32), primary_key=True)
    readable_by: Mapped[str | None] = mapped_column(String(32))  # none: no older code
    recorded_by: Mapped[str] = mapped_column(String(60))  # version of the code that recorded it
