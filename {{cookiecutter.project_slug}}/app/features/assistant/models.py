from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class Ticket(TenantOwned, Base):
    __tablename__ = "tickets"
    __table_args__ = {"info": {"retention": "kept until somebody deletes the ticket"}}  # noqa: RUF012 - SQLAlchemy's contract

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    title: Mapped[str] = mapped_column(String(120))
    body: Mapped[str] = mapped_column(Text)
    priority: Mapped[str] = mapped_column(String(10))
    created_by: Mapped[str] = mapped_column(String(36))
    request_key: Mapped[str] = mapped_column(String(200), unique=True)  # one ticket per tool call, however often run
    created_at: Mapped[datetime]
