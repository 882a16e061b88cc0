"""Newer code than this: a copy of the source with more migrations, which migrates a database as a release does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from alembic.script import ScriptDirectory

from app.entrypoints.schema import alembic_config
from app.settings import ROOT, load_settings
from gates.rig.databases import owner_of

SOURCE = ("app", "config", "migrations", "pyproject.toml")
MORE = ("t9998", "t9999")  # its migrations, in this order
MIGRATES_WITHIN_S = 300
MIGRATION = """import sqlalchemy as sa
from alembic import op

revision = {revision!r}
down_revision = {before!r}
branch_labels = None
depends_on = None
{permission}


def upgrade() -> None:
    op.create_table("of_{revision}", sa.Column("id", sa.Integer, primary_key=True))


def downgrade() -> None:
    op.drop_table("of_{revision}")
"""


def newest() -> str:
    """The newest migration of the template's that this code knows."""
    script = ScriptDirectory.from_config(alembic_config(load_settings(environment="test")))
    return str(script.as_revision_number("template@head"))


class NewerCode:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in SOURCE:
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, folder / name)

    def migrate(self, database_url: str, readable_by: Mapping[str, str | None]) -> None:
        """Run its `app migrate`; each of its migrations says this, or nothing."""
        before = newest()
        for revision in MORE:
            named = readable_by[revision]
            permission = f"readable_by = {named!r}" if named else ""
            text = MIGRATION.format(revision=revision, before=before, permission=permission)
            (self.folder / "migrations" / "template" / f"{revision}_more.py").write_text(text, encoding="utf-8")
            before = revision
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self.folder),
            "ENVIRONMENT": "test",
            "DATABASE_URL": database_url,
            "MIGRATION_DATABASE_URL": owner_of(database_url),
        }
        command = [sys.executable, "-m", "app", "migrate"]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=MIGRATES_WITHIN_S,
            check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"the newer code's `app migrate` ended with {done.returncode}: {done.stderr}")
