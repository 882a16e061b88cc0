from datetime import datetime

from sqlalchemy import JSON, BigInteger, CheckConstraint, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, TenantOwned


class BudgetCap(Base):
    """The limits of one scope and period, a column for each layer; see `layers`.

    The operator's takes the place of the default from config/budgets.toml; the tenant's can only narrow it.
    period: day or month; empty for the one that its scope has without a word (`caps.USUAL`)."""

    __tablename__ = "budget_caps"

    scope: Mapped[str] = mapped_column(String(10), primary_key=True)
    scope_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    period: Mapped[str] = mapped_column(String(5), primary_key=True, default="", server_default="")
    limit_micro: Mapped[int | None] = mapped_column(BigInteger)  # the operator's; None: the default
    frozen: Mapped[bool] = mapped_column(default=False, server_default=false())  # by the operator
    tenant_limit_micro: Mapped[int | None] = mapped_column(BigInteger)  # of a run: its caller's; None: no limit
    tenant_frozen: Mapped[bool] = mapped_column(default=False, server_default=false())


class BudgetWindow(Base):
    """What one scope may spend in one window, in micro-dollars, and how much of it is gone or held."""

    __tablename__ = "budget_windows"
    __table_args__ = (CheckConstraint("spent_micro >= 0 AND held_micro >= 0", name="not_negative"),)

    scope: Mapped[str] = mapped_column(String(10), primary_key=True)
    scope_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    window: Mapped[str] = mapped_column(String(10), primary_key=True)
    limit_micro: Mapped[int | None] = mapped_column(BigInteger)  # the operator's; None: not capped, only counted
    spent_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    held_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    extra_micro: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # by the operator, this window
    tenant_extra_micro: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")  # by the tenant
    warned: Mapped[dict[str, str]] = mapped_column(JSON, default=dict, server_default="{}")  # of what, and when


class ModelCall(TenantOwned, Base):
    """One attempt at a provider: held before it starts, priced when it ends."""

    __tablename__ = "model_calls"
    __table_args__ = (Index("ix_model_calls_held", "state", "expires_at"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    member_id: Mapped[str] = mapped_column(String(36), index=True)
    run_id: Mapped[str] = mapped_column(String(36), index=True)
    feature: Mapped[str] = mapped_column(String(60))
    model: Mapped[str] = mapped_column(String(120))
    prompt_version: Mapped[str] = mapped_column(String(64))
    tier: Mapped[str] = mapped_column(String(60), default="", server_default="")
    state: Mapped[str] = mapped_column(String(8))  # held, settled, disputed (report not believed), swept
    held_micro: Mapped[int] = mapped_column(BigInteger)
    cost_micro: Mapped[int] = mapped_column(BigInteger, default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    outcome: Mapped[str] = mapped_column(String(60), default="", server_default="")  # ok, left, or an error's code
    started_at: Mapped[datetime] = mapped_column(index=True)
    expires_at: Mapped[datetime]
