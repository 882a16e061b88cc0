"""PostgreSQL's own walls between tenants, and a role for the service that cannot move them.

Every table with a `tenant_id` gets row-level security, forced on its owner as well. Which tenant a transaction may see
is a setting of that transaction alone (`Database.transaction`), so a pooled connection carries nothing over, and a
query without one sees no row. They stand behind the predicate that `tenancy` adds to each query: for the query that
forgets. Put up by `app migrate`, whoever wrote the table's migration. Gate: security, access, deployment.
"""

from typing import cast

import psycopg
import sqlalchemy as sa
from psycopg import sql
from sqlalchemy.engine import URL

from app.db.tenancy import AllTenants

SETTING = "app.tenant_id"
POLICY = "tenant"
APPEND_ONLY = frozenset({"audit_events"})  # what is on record stays as it is
READ_ONLY = frozenset({"alembic_version", "database_environment", "schema_revisions"})
STANDING = sa.text(
    "SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid AND polname = :policy "
    "WHERE relnamespace = 'public'::regnamespace AND relrowsecurity AND relforcerowsecurity"
)
POWERS = sa.text(
    "SELECT rolsuper, rolbypassrls, rolcreaterole, rolreplication, "
    "has_schema_privilege(rolname, 'public', 'CREATE') AS creates, "
    "EXISTS (SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace "
    "AND pg_has_role(rolname, relowner, 'MEMBER')) AS owns "
    "FROM pg_roles WHERE rolname = current_user"
)


class RoleNotMade(Exception):
    """The service's role is missing and cannot be made; the message says what to do."""


class RoleTooStrong(Exception):
    """The service's role could change the schema or see every tenant; the message says what to change."""


def put_up(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Row security on every tenant's table; a table that has it already is left alone. Needs the tables' owner."""
    standing = set(connection.scalars(STANDING, {"policy": POLICY}))
    for table in metadata.sorted_tables:
        column = "tenant_id" if "tenant_id" in table.columns else "id" if table.name == "tenants" else ""
        if column and table.name not in standing:
            mine = sql.SQL("current_setting({}, true) IN ({}, {})").format(
                sql.Literal(SETTING), sql.Identifier(column), sql.Literal(AllTenants.tenant_id)
            )
            for statement in (
                "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
                "ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
                "DROP POLICY IF EXISTS {policy} ON {table}",
                "CREATE POLICY {policy} ON {table} USING ({mine}) WITH CHECK ({mine})",
            ):
                _run(connection, statement, table=sql.Identifier(table.name), policy=sql.Identifier(POLICY), mine=mine)


def make_role(connection: sa.Connection, service: URL) -> None:
    """Make the role of the service's own URL where it is missing."""
    name = str(service.username)
    if connection.scalar(sa.text("SELECT count(*) FROM pg_roles WHERE rolname = :name"), {"name": name}) == 0:
        powers = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS NOREPLICATION"
        driver = cast("psycopg.Connection[object]", connection.connection.driver_connection)
        # Hashed here: a statement is in the server's log, and in the text of its error.
        raw = (str(service.password or "").encode(), name.encode(), b"scram-sha-256")
        hashed = sql.Literal(driver.pgconn.encrypt_password(*raw).decode())
        try:
            _run(
                connection,
                f"CREATE ROLE {{role}} {powers} PASSWORD {{hashed}}",
                role=sql.Identifier(name),
                hashed=hashed,
            )
        except psycopg.Error as error:
            raise RoleNotMade(
                f"MIGRATION_DATABASE_URL: its role cannot make the role {name} (SQLSTATE {error.sqlstate}); make it "
                f"yourself: CREATE ROLE {name} {powers} PASSWORD '…'"
            ) from None


def grant(connection: sa.Connection, service: URL) -> None:
    """Give the role of the service's own URL what it needs, and nothing else."""
    role = sql.Identifier(str(service.username))
    _run(connection, "GRANT USAGE ON SCHEMA public TO {role}", role=role)
    _run(connection, "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}", role=role)
    for table in sa.inspect(connection).get_table_names():
        rights = "SELECT" if table in READ_ONLY else "SELECT, INSERT"
        if table not in READ_ONLY | APPEND_ONLY:
            rights += ", UPDATE, DELETE"
        _run(connection, f"GRANT {rights} ON {{table}} TO {{role}}", table=sql.Identifier(table), role=role)


def require_no_powers(connection: sa.Connection) -> None:
    """Raise RoleTooStrong where this connection's role could move the walls or see over them."""
    powers = connection.execute(POWERS).mappings().one()
    told = {
        "rolsuper": "is a superuser",
        "rolbypassrls": "bypasses row security",
        "rolcreaterole": "makes roles",
        "rolreplication": "replicates",
        "creates": "may create tables",
        "owns": "owns tables",
    }
    found = [text for name, text in told.items() if powers[name]]
    if found:
        raise RoleTooStrong(
            f"DATABASE_URL: its role {' and '.join(found)}. Give the service a role of its own, and the owner's URL to "
            "`app migrate` alone, as MIGRATION_DATABASE_URL."
        )


def _run(connection: sa.Connection, statement: str, **parts: sql.Composable) -> None:
    driver = cast("psycopg.Connection[object]", connection.connection.driver_connection)
    driver.execute(sql.SQL(statement).format(**parts))
