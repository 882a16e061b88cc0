"""Which environment a database belongs to; `app migrate` records it."""

import sqlalchemy as sa
from alembic import op

revision = "t0013"
down_revision = "t0012"
branch_labels = None
depends_on = None
readable_by = "t0012"  # a new table


def upgrade() -> None:
    op.create_table(
        "database_environment",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("environment", sa.String(length=20), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_database_environment"),
    )


def downgrade() -> None:
    op.drop_table("database_environment")
