"""Which migrations the schema has, and who can work on it after each: for code that has no file of a newer one.

`alembic_version` holds heads alone, and a head of newer code tells older code nothing. So every migration is recorded
here in its own transaction, with its `readable_by`: a migration of the same root, and code that knows that one can
work on the schema. Older code starts where every recorded migration that it does not know lets it. Gate: deployment.
"""

from collections.abc import Collection, Mapping
from typing import cast

import sqlalchemy as sa

from app.db.models import SchemaRevision

_TABLE = cast("sa.Table", SchemaRevision.__table__)
WHAT_TO_DO = "roll forward to that code, or restore a backup from before (docs/runbooks/RB-11-migration-stuck.md)"


class SchemaNewer(Exception):
    """Newer code has migrated the database, and nothing says that this code can work on it."""


def record(connection: sa.Connection, applied: Mapping[str, str | None], version: str) -> None:
    """Have the table hold exactly these migrations, each with its `readable_by`. Needs the tables' owner.

    `version` is this code's, and stands with what is new. Nothing is done before the table's own migration."""
    if not sa.inspect(connection).has_table(_TABLE.name):
        return
    recorded = {row.revision: row.readable_by for row in connection.execute(sa.select(_TABLE))}
    for revision in recorded.keys() - applied.keys():
        connection.execute(sa.delete(_TABLE).where(_TABLE.c.revision == revision))
    for revision, readable_by in applied.items():
        if revision not in recorded:
            row = {"revision": revision, "readable_by": readable_by, "recorded_by": version}
            connection.execute(sa.insert(_TABLE), row)
        elif recorded[revision] != readable_by:  # granted, or taken back, after it was applied
            mine = _TABLE.c.revision == revision
            connection.execute(sa.update(_TABLE).where(mine).values(readable_by=readable_by))


def require_readable(connection: sa.Connection, known: Collection[str], heads: Collection[str]) -> None:
    """Raise SchemaNewer unless code that knows these migrations can work on a schema with these heads."""
    rows = connection.execute(sa.select(_TABLE)).all() if sa.inspect(connection).has_table(_TABLE.name) else []
    recorded = {row.revision: row for row in rows}
    for head in sorted(set(heads) - set(known) - recorded.keys()):
        raise SchemaNewer(f"Migration {head} of the database is of newer code that has not recorded it: {WHAT_TO_DO}.")
    for revision in sorted(recorded.keys() - set(known)):
        row = recorded[revision]
        if row.readable_by not in known:
            who = f"only code with migration {row.readable_by}" if row.readable_by else "no older code"
            raise SchemaNewer(
                f"Migration {revision} of the database is of newer code (recorded by {row.recorded_by}), and {who} can "
                f"work on the schema after it: {WHAT_TO_DO}."
            )
    if missing := sorted(set(known) - recorded.keys()):
        raise SchemaNewer(
            f"The database was migrated by newer code, and lacks migration {', '.join(missing)} of this code: "
            f"{WHAT_TO_DO}."
        )
