"""Content of runs in a table of its own; when retention deleted it, and the shorter periods of a tenant."""

import sqlalchemy as sa
from alembic import op

revision = "t0011"
down_revision = "t0010"
branch_labels = None
depends_on = None
COPIED = "tenant_id, task, documents, history"


def upgrade() -> None:
    op.create_table(
        "run_contents",
        sa.Column("run_id", sa.String(length=36), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("documents", sa.JSON(), nullable=False),
        sa.Column("history", sa.Text(), nullable=True),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name="pk_run_contents"),
    )
    op.create_index("ix_run_contents_tenant_id", "run_contents", ["tenant_id"])
    op.execute(f"INSERT INTO run_contents (run_id, {COPIED}) SELECT id, {COPIED} FROM runs")  # noqa: S608 - constants
    with op.batch_alter_table("runs") as runs:
        for name in ("task", "documents", "history"):
            runs.drop_column(name)
        runs.add_column(sa.Column("history_deleted_at", sa.DateTime(timezone=True), nullable=True))
        runs.add_column(sa.Column("content_deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_runs_tenant_ended", "runs", ["tenant_id", "ended_at"])
    with op.batch_alter_table("approvals") as approvals:
        approvals.alter_column("arguments", existing_type=sa.JSON(), nullable=True)
    op.create_table(
        "tenant_retention",
        sa.Column("content_days", sa.Integer(), nullable=True),
        sa.Column("history_days", sa.Integer(), nullable=True),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", name="pk_tenant_retention"),
    )


def downgrade() -> None:
    op.drop_table("tenant_retention")
    op.execute("UPDATE approvals SET arguments = '{}' WHERE arguments IS NULL")
    with op.batch_alter_table("approvals") as approvals:
        approvals.alter_column("arguments", existing_type=sa.JSON(), nullable=False)
    op.drop_index("ix_runs_tenant_ended", "runs")
    with op.batch_alter_table("runs") as runs:
        runs.drop_column("content_deleted_at")
        runs.drop_column("history_deleted_at")
        runs.add_column(sa.Column("task", sa.Text(), nullable=False, server_default=""))
        runs.add_column(sa.Column("documents", sa.JSON(), nullable=False, server_default="[]"))
        runs.add_column(sa.Column("history", sa.Text(), nullable=True))
    for name in ("task", "documents", "history"):
        value = f"(SELECT c.{name} FROM run_contents c WHERE c.run_id = runs.id)"  # noqa: S608 - constants
        op.execute(f"UPDATE runs SET {name} = {value} WHERE id IN (SELECT run_id FROM run_contents)")  # noqa: S608
    with op.batch_alter_table("runs") as runs:
        runs.alter_column("task", existing_type=sa.Text(), server_default=None)
        runs.alter_column("documents", existing_type=sa.JSON(), server_default=None)
    op.drop_table("run_contents")
