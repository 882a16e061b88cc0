"""The migrations of this code, read without the migration library: serving only asks whether all are applied.

Gate: deployment.
"""

import ast
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

FIELDS = frozenset({"revision", "down_revision", "depends_on", "readable_by"})


def all_applied(migrations: Path, stored: Collection[str]) -> bool:
    """Whether the stored heads cover every migration of these folders. False as well where that is in doubt:
    a head that no file has, no file at all, a revision that is not a literal, or a label in place of one."""
    try:
        parents = _parents(migrations)
        applied = _with_ancestors(parents, stored)
    except (ValueError, SyntaxError, KeyError):
        return False
    return bool(parents) and applied == set(parents)


def ancestors(migrations: Path, of: Collection[str]) -> frozenset[str]:
    """These migrations and every one before them. Raises ValueError naming one that no file has."""
    try:
        return frozenset(_with_ancestors(_parents(migrations), of))
    except KeyError as error:
        raise ValueError(f"no migration {error.args[0]} in {migrations.name}/") from None


def readability(migrations: Path) -> Mapping[str, str | None]:
    """Each migration's `readable_by`: code that knows that one can work on the schema after it; None: no older code.

    Raises ValueError where it names no migration before this one in the same root, or where a literal is computed."""
    fields = {
        (file.parent, read["revision"]): read
        for file in sorted(migrations.glob("*/*.py"))
        if "revision" in (read := _fields(file))
    }
    for (root, revision), read in fields.items():
        named, due, before = read.get("readable_by"), _names(read.get("down_revision")), set[str]()
        while due:
            before.update(due)
            due = tuple(up for each in due for up in _names(fields.get((root, each), {}).get("down_revision")))
        if named is not None and named not in before:
            raise ValueError(f"{revision}: readable_by is {named}, which is no migration of {root.name}/ before it")
    return {revision: read.get("readable_by") for (_, revision), read in fields.items()}


def _parents(migrations: Path) -> dict[str, tuple[str, ...]]:
    """Raises ValueError and SyntaxError where a file cannot be told."""
    parents: dict[str, tuple[str, ...]] = {}
    for file in sorted(migrations.glob("*/*.py")):
        read = _fields(file)
        if "revision" not in read:
            continue  # a module that migrations import
        if read["revision"] in parents:
            raise ValueError(f"{read['revision']} is there twice")
        parents[read["revision"]] = (*_names(read.get("down_revision")), *_names(read.get("depends_on")))
    return parents


def _with_ancestors(parents: dict[str, tuple[str, ...]], of: Collection[str]) -> set[str]:
    """Raises KeyError for one that is not there."""
    found: set[str] = set()
    due = list(of)
    while due:
        revision = due.pop()
        if revision not in found:
            due += parents[revision]
            found.add(revision)
    return found


def heads(migrations: Path) -> list[str]:
    """The migrations of these folders that no other one follows or needs, which is what a current database stores.

    Empty where the files are in doubt."""
    try:
        parents = _parents(migrations)
    except (ValueError, SyntaxError):
        return []
    return sorted(set(parents) - {parent for each in parents.values() for parent in each})


def _fields(file: Path) -> dict[str, Any]:
    """The literals that a migration says about itself. Raises ValueError where one is computed."""
    read = {}
    for node in ast.parse(file.read_bytes()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in FIELDS:
                read[name] = _literal(file, name, value)
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name in FIELDS:
                read[name] = _literal(file, name, value)
    return read


def _literal(file: Path, name: str, value: ast.expr) -> Any:
    try:
        return ast.literal_eval(value)
    except ValueError:
        raise ValueError(f"{file.name}: {name} has to be a literal") from None


def _names(value: Any) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
