"""Answers that may be given again, and which tier of models a tenant may use and a run was given."""

import sqlalchemy as sa
from alembic import op

revision = "t0006"
down_revision = "t0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cached_answers",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("model", sa.String(length=120), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("kept_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("fresh_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_cached_answers"),
    )
    op.create_index("ix_cached_answers_gone_at", "cached_answers", ["gone_at"])
    op.create_index("ix_cached_answers_tenant_id", "cached_answers", ["tenant_id"])
    with op.batch_alter_table("tenants") as tenants:
        tenants.add_column(sa.Column("tier", sa.String(length=60), nullable=True))
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("route", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("route")
    with op.batch_alter_table("tenants") as tenants:
        tenants.drop_column("tier")
    op.drop_table("cached_answers")
