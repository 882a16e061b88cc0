"""Caps by the day and by the month for each scope; a window that is counted and has no cap."""

import sqlalchemy as sa
from alembic import op

revision = "t0008"
down_revision = "t0007"
branch_labels = None
depends_on = None
BEFORE, NOW = ["scope", "scope_id"], ["scope", "scope_id", "period"]


def upgrade() -> None:
    with op.batch_alter_table("budget_caps") as caps:
        caps.add_column(sa.Column("period", sa.String(length=5), nullable=False, server_default=""))
        caps.drop_constraint("pk_budget_caps", type_="primary")
        caps.create_primary_key("pk_budget_caps", NOW)
    with op.batch_alter_table("budget_windows") as windows:
        windows.alter_column("limit_micro", existing_type=sa.BigInteger(), nullable=True)


def downgrade() -> None:
    op.execute("DELETE FROM budget_caps WHERE period <> ''")
    with op.batch_alter_table("budget_caps") as caps:
        caps.drop_constraint("pk_budget_caps", type_="primary")
        caps.create_primary_key("pk_budget_caps", BEFORE)
        caps.drop_column("period")
    op.execute("DELETE FROM budget_windows WHERE limit_micro IS NULL")
    with op.batch_alter_table("budget_windows") as windows:
        windows.alter_column("limit_micro", existing_type=sa.BigInteger(), nullable=False)
