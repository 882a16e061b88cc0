"""Limits, freezes and disabled members of two layers: the operator's and the tenant's.

Until now either wrote the same columns, and nothing says who did. What is stored is taken for the operator's: an
administrator of a tenant who had set it must ask the operator to change it, and nobody lifts what the operator had set.
A run's own limit was always its caller's."""

import sqlalchemy as sa
from alembic import op

revision = "t0010"
down_revision = "t0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("budget_caps") as caps:
        caps.add_column(sa.Column("tenant_limit_micro", sa.BigInteger(), nullable=True))
        caps.add_column(sa.Column("tenant_frozen", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("budget_windows") as windows:
        windows.add_column(sa.Column("tenant_extra_micro", sa.BigInteger(), nullable=False, server_default="0"))
    op.execute("UPDATE budget_caps SET tenant_limit_micro = limit_micro, limit_micro = NULL WHERE scope = 'run'")
    with op.batch_alter_table("members") as members:
        members.add_column(sa.Column("operator_disabled_at", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE members SET operator_disabled_at = disabled_at, disabled_at = NULL")


def downgrade() -> None:
    """One layer again, the stricter of both: what holds now goes on to hold."""
    op.execute("UPDATE members SET disabled_at = coalesce(operator_disabled_at, disabled_at)")
    with op.batch_alter_table("members") as members:
        members.drop_column("operator_disabled_at")
    op.execute(
        "UPDATE budget_caps SET limit_micro = tenant_limit_micro"
        " WHERE tenant_limit_micro < limit_micro OR (tenant_limit_micro IS NOT NULL AND limit_micro IS NULL)"
    )
    op.execute("UPDATE budget_caps SET frozen = tenant_frozen WHERE NOT frozen")
    with op.batch_alter_table("budget_windows") as windows:
        windows.drop_column("tenant_extra_micro")
    with op.batch_alter_table("budget_caps") as caps:
        caps.drop_column("tenant_frozen")
        caps.drop_column("tenant_limit_micro")
