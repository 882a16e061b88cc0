"""The database schema against the one that was released: schema N must serve code N-1 (expand, then contract).

`schema.released.json` lists what the released code reads and writes, made from its models. While a release is rolled
out, and after a rollback, that code works on the new schema. So until a later release nothing that it knows may be
dropped, renamed or narrowed, and what is new must be writable by code that does not know it.

`python -m gates.schema_contract` compares; with `--release` it writes the file from the present models.
Gate: deployment.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import typer
from sqlalchemy.dialects import postgresql

from app.db.base import Base
from app.db.connections import sync_engine
from app.settings import ROOT
from gates.rig.databases import owner_of, postgres_databases
from gates.rig.environment import isolate

FILE = ROOT / "schema.released.json"
WIDER = {("INTEGER", "BIGINT"), ("VARCHAR", "TEXT")}
Contract = Mapping[str, Any]
typer_app = typer.Typer(add_completion=False)


def of_models() -> dict[str, Any]:
    """What the present code knows of each table."""
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    return {
        table.name: {
            "columns": {
                column.name: {"type": str(column.type.compile(dialect)), "nullable": bool(column.nullable)}
                for column in table.columns
            },
            "unique": sorted(sorted(names) for names in _unique_of(table)),
            "checks": sorted(str(each.name) for each in table.constraints if isinstance(each, sa.CheckConstraint)),
        }
        for table in Base.metadata.sorted_tables
    }


def _unique_of(table: sa.Table) -> Iterator[list[str]]:
    yield [column.name for column in table.primary_key.columns]
    for constraint in table.constraints:
        if isinstance(constraint, sa.UniqueConstraint):
            yield [column.name for column in constraint.columns]
    for index in table.indexes:
        if index.unique:
            yield [column.name for column in index.columns]


def load(file: Path = FILE) -> dict[str, Any]:
    contract: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return contract


def broken(contract: Contract, connection: sa.Connection) -> list[str]:
    """Why the released code cannot work on this PostgreSQL schema; empty where it can."""
    inspector = sa.inspect(connection)
    present = set(inspector.get_table_names())
    found = []
    for name, table in contract.items():
        if name not in present:
            found.append(f"{name}: the released code uses this table, and it is gone")
            continue
        found += _of_columns(name, table["columns"], {c["name"]: c for c in inspector.get_columns(name)})
        found += _of_constraints(name, table, inspector)
    return found


def _of_columns(table: str, released: Mapping[str, Any], present: Mapping[str, Any]) -> Iterator[str]:
    for name, column in released.items():
        if name not in present:
            yield f"{table}.{name}: the released code uses this column, and it is gone: add, copy, and drop it later"
            continue
        now = present[name]
        kind = str(now["type"].compile(postgresql.dialect()))  # type: ignore[no-untyped-call]
        if not _holds_all(column["type"], kind):
            yield f"{table}.{name}: was {column['type']} and is {kind}: add a new column instead"
        if column["nullable"] != now["nullable"]:
            was, is_now = ("NULL", "NOT NULL") if column["nullable"] else ("NOT NULL", "NULL")
            yield f"{table}.{name}: was {was} and is {is_now}: the released code writes, or reads, the other"
    for name in present.keys() - released.keys():
        if not present[name]["nullable"] and present[name]["default"] is None:
            yield f"{table}.{name}: new, NOT NULL and without a server default: the released code cannot insert"


def _holds_all(released: str, present: str) -> bool:
    """Whether a column of the present type holds every value of the released one, and reads back the same."""
    before, now = released.partition("("), present.partition("(")
    if (before[0], now[0]) in WIDER or released == present:
        return True
    lengths = [part[2].rstrip(")") for part in (before, now)]
    return before[0] == now[0] == "VARCHAR" and all(map(str.isdigit, lengths)) and int(lengths[0]) <= int(lengths[1])


def _of_constraints(name: str, table: Contract, inspector: sa.Inspector) -> Iterator[str]:
    unique: list[Any] = [c["column_names"] for c in inspector.get_unique_constraints(name)]
    unique += [index["column_names"] for index in inspector.get_indexes(name) if index["unique"]]
    unique.append(inspector.get_pk_constraint(name)["constrained_columns"])
    for columns in unique:
        if sorted(str(column) for column in columns) not in table["unique"]:
            yield f"{name}: newly unique is {', '.join(map(str, columns))}: the released code may write it twice"
    for check in inspector.get_check_constraints(name):
        if not str(check["name"]).endswith(tuple(table["checks"])):  # the database's may have a prefix twice
            yield f"{name}: the check {check['name']} is new: the released code may write what it refuses"


@typer_app.command()
def main(
    file: Annotated[Path, typer.Option(help="The released schema.")] = FILE,
    release: Annotated[bool, typer.Option(help="Write the present models' there, if nothing breaks.")] = False,
) -> None:
    """Migrate a scratch PostgreSQL and compare; exit 1 where the released code could not work on it."""
    isolate()
    with postgres_databases() as new:
        engine = sync_engine(owner_of(new()))
        with engine.connect() as connection:
            found = broken(load(file), connection) if file.exists() else []
        engine.dispose()
    for line in found:
        print(f"✘ {line}", file=sys.stderr)
    if found:
        print("schema: expand first, contract in a later release: docs/databases.md", file=sys.stderr)
        raise SystemExit(1)
    if release:
        file.write_text(json.dumps(of_models(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"released: wrote {file.name}; commit it with the release")
    else:
        print("schema: ok, the released code can work on it")


if __name__ == "__main__":
    typer_app()
