"""Answers that may be given again."""

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


def downgrade() -> None:
    op.drop_table("cached_answers")
