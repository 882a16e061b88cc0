"""What a budget can beyond its cap: be frozen, topped up for a window, warned of; and the tier of each call."""

import sqlalchemy as sa
from alembic import op

revision = "t0007"
down_revision = "t0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("budget_caps") as caps:
        caps.alter_column("limit_micro", existing_type=sa.BigInteger(), nullable=True)
        caps.add_column(sa.Column("frozen", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("budget_windows") as windows:
        windows.add_column(sa.Column("extra_micro", sa.BigInteger(), nullable=False, server_default="0"))
        windows.add_column(sa.Column("warned", sa.JSON(), nullable=False, server_default="{}"))
    with op.batch_alter_table("model_calls") as calls:
        calls.create_index("ix_model_calls_started_at", ["started_at"])
        calls.add_column(sa.Column("tier", sa.String(length=60), nullable=False, server_default=""))


def downgrade() -> None:
    with op.batch_alter_table("model_calls") as calls:
        calls.drop_column("tier")
        calls.drop_index("ix_model_calls_started_at")
    with op.batch_alter_table("budget_windows") as windows:
        windows.drop_column("warned")
        windows.drop_column("extra_micro")
    with op.batch_alter_table("budget_caps") as caps:
        caps.drop_column("frozen")
        caps.alter_column("limit_micro", existing_type=sa.BigInteger(), nullable=False)
