from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class Loan(TenantOwned, Base):
    __tablename__ = "loans"
    __table_args__ = {"info": {"retention": "kept until the book is back"}}  # noqa: RUF012 - SQLAlchemy's contract

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    title: Mapped[str] = mapped_column(String(120))
    request_key: Mapped[str] = mapped_column(String(200), unique=True)
    created_at: Mapped[datetime]
