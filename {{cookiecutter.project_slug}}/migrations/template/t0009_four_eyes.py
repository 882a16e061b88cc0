"""Who else may hold the key that a run was started with; one-time claims to a key."""

import sqlalchemy as sa
from alembic import op

revision = "t0009"
down_revision = "t0008"
branch_labels = None
depends_on = None

# What is on record of the key. NULL (a key of unknown origin, a run that has ended) never counts as distinct holders.
OPEN = "state IN ('queued', 'running', 'waiting')"
OF_THE_KEY = "(SELECT api_keys.hands FROM api_keys WHERE api_keys.id = runs.key_id)"
OF_THE_RUN = "(SELECT runs.issuer_chain FROM runs WHERE runs.id = approvals.run_id)"


def upgrade() -> None:
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("issuer_chain", sa.JSON(), nullable=True))
    with op.batch_alter_table("approvals") as approvals:
        approvals.add_column(sa.Column("issuer_chain", sa.JSON(), nullable=True))
        approvals.add_column(sa.Column("four_eyes_rule", sa.String(length=30), nullable=True))
    op.execute(f"UPDATE runs SET issuer_chain = {OF_THE_KEY} WHERE {OPEN} AND key_id <> ''")  # noqa: S608 - constants
    op.execute(f"UPDATE runs SET issuer_chain = '[]' WHERE {OPEN} AND key_id = ''")  # noqa: S608 - a provider's sign-in
    op.execute(f"UPDATE approvals SET issuer_chain = {OF_THE_RUN} WHERE state = 'pending'")  # noqa: S608 - constants
    op.create_table(
        "key_claims",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("member_id", sa.String(length=36), nullable=False),
        sa.Column("claim_hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=True),
        sa.Column("key_days", sa.Integer(), nullable=False),
        sa.Column("created_by", sa.String(length=36), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redeemed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("key_id", sa.String(length=36), nullable=True),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_key_claims"),
        sa.UniqueConstraint("claim_hash", name="uq_key_claims_claim_hash"),
    )
    op.create_index("ix_key_claims_member_id", "key_claims", ["member_id"])
    op.create_index("ix_key_claims_tenant_id", "key_claims", ["tenant_id"])


def downgrade() -> None:
    op.drop_table("key_claims")
    with op.batch_alter_table("approvals") as approvals:
        approvals.drop_column("four_eyes_rule")
        approvals.drop_column("issuer_chain")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("issuer_chain")
