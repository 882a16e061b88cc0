"""Members' identities at a provider and the end of their sessions; when a key was last used."""

import sqlalchemy as sa
from alembic import op

revision = "t0003"
down_revision = "t0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("members") as members:
        members.add_column(sa.Column("issuer", sa.String(length=300), nullable=True))
        members.add_column(sa.Column("subject", sa.String(length=255), nullable=True))
        members.add_column(sa.Column("signed_out_at", sa.DateTime(timezone=True), nullable=True))
        members.create_unique_constraint("uq_members_issuer_subject", ["issuer", "subject"])
    with op.batch_alter_table("api_keys") as keys:
        keys.add_column(sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("api_keys") as keys:
        keys.drop_column("last_used_at")
    with op.batch_alter_table("members") as members:
        members.drop_constraint("uq_members_issuer_subject", type_="unique")
        members.drop_column("signed_out_at")
        members.drop_column("subject")
        members.drop_column("issuer")
