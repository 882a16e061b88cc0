"""Roles that are lent for a while, and through whose hands a key has gone."""

import sqlalchemy as sa
from alembic import op

revision = "t0005"
down_revision = "t0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "elevations",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("member_id", sa.String(length=36), nullable=False),
        sa.Column("key_id", sa.String(length=36), nullable=False),
        sa.Column("hands", sa.JSON(), nullable=False),
        sa.Column("role", sa.String(length=60), nullable=False),
        sa.Column("minutes", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=300), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_by", sa.String(length=36), nullable=True),
        sa.Column("decided_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("decision_reason", sa.String(length=300), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_elevations"),
    )
    op.create_index("ix_elevations_member_id", "elevations", ["member_id"])
    op.create_index("ix_elevations_tenant_id", "elevations", ["tenant_id"])
    with op.batch_alter_table("members") as members:
        members.add_column(sa.Column("elevated_role", sa.String(length=60), nullable=True))
        members.add_column(sa.Column("elevated_until", sa.DateTime(timezone=True), nullable=True))
        members.add_column(sa.Column("elevated_key", sa.String(length=36), nullable=True))
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("hands", sa.JSON(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_column("hands")
    with op.batch_alter_table("members") as members:
        members.drop_column("elevated_key")
        members.drop_column("elevated_until")
        members.drop_column("elevated_role")
    op.drop_table("elevations")
