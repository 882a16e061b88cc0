"""Limits and restarts of a run, the change an approval shows, and what a person found out about an unknown call."""

import sqlalchemy as sa
from alembic import op

revision = "t0002"
down_revision = "t0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("limits", sa.JSON(), nullable=True))
        runs.add_column(sa.Column("starts", sa.Integer(), nullable=False, server_default="0"))
        runs.add_column(sa.Column("used", sa.JSON(), nullable=True))
    with op.batch_alter_table("approvals") as approvals:
        approvals.add_column(sa.Column("change", sa.JSON(), nullable=True))
    with op.batch_alter_table("tool_calls") as calls:
        calls.add_column(sa.Column("resolution", sa.String(length=20), nullable=True))
        calls.add_column(sa.Column("resolved_by", sa.String(length=80), nullable=True))
        calls.add_column(sa.Column("resolution_reason", sa.String(length=300), nullable=True))
        calls.create_index("ix_tool_calls_state", ["state"])


def downgrade() -> None:
    with op.batch_alter_table("tool_calls") as calls:
        calls.drop_index("ix_tool_calls_state")
        calls.drop_column("resolution_reason")
        calls.drop_column("resolved_by")
        calls.drop_column("resolution")
    with op.batch_alter_table("approvals") as approvals:
        approvals.drop_column("change")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("used")
        runs.drop_column("starts")
        runs.drop_column("limits")
