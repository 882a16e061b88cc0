"""`make matrix`: every route and tool, for every role, on one's own objects and another tenant's, as it is declared.

Declared are the permission of a route (by hand in gates/test_02_access.py, a feature's by its guard) and who holds it
(config/matrix.toml). Allowed means that it was done, denied that nothing was; another tenant's object is a missing one.
"""

import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from fastapi.routing import APIRoute, iter_route_contexts
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.entrypoints.web import create_app
from app.features import FEATURES
from app.identity.roles import Roles
from app.settings import ROOT, load_settings
from gates import suites
from gates.matrix import cells, tools
from gates.matrix.cells import NOBODY, ROLELESS, Cell, Seen, Whose
from gates.matrix.objects import Store, of_features, seeded
from gates.matrix.requests import Asker, names_object
from gates.matrix.tools import STARTER, ToolCell
from gates.rig.databases import NewDatabase, postgres_databases, sqlite_databases
from gates.rig.environment import isolate
from gates.rig.issuer import Issuer, issuer
from gates.rig.people import Person
from gates.rig.permissions import DECLARED
from gates.rig.routes import Route, all_routes
from gates.rig.world import World, opened

FILE = ROOT / "config" / "matrix.toml"
WIDTH = 132
VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OPERATIONS = ("/metrics", "/version")  # on a port of their own
SIDES: tuple[Whose, ...] = ("own", "foreign")
MARKS = {
    "allowed": "[green]✔[/]", "hidden": "[green]✔[/]", "public": "[green]✔[/]", "missing": "[dim]·[/]",
    "denied": "[red]✘[/]", "signed out": "[red]✘[/]", "refused": "[red]✘[/]", "": "[bold red reverse]![/]",
}  # fmt: skip
TOOL_MARKS = {"effect": "[green]✔[/]", "question": "[yellow]?[/]", "nothing": "[red]✘[/]"}
out = Console(highlight=False)
out.width = max(out.width, WIDTH)  # without a terminal as well: the table is read whole or not at all


@dataclass
class Matrix:
    """What is declared, and everything that was seen to be otherwise."""

    holders: Mapping[str, Sequence[str]]  # of each permission
    roles: Sequence[str]
    by_hand: Mapping[str, str] = field(default_factory=dict)  # the permission of each route that is written down
    tools: Mapping[str, str] = field(default_factory=dict)  # of each tool
    marks: dict[tuple[str, str], str] = field(default_factory=dict)  # of (route or tool, role)
    counts: Counter[str] = field(default_factory=Counter)  # of what
    deviations: list[str] = field(default_factory=list)

    def add(self, row: str, role: str, mark: str, told: str, of: str = "routes") -> None:
        self.counts[of] += 1
        self.marks[row, role] = self.marks.get((row, role), "") + (MARKS[""] if told else mark)
        if told:
            self.deviations.append(told)

    def judge(self, cell: Cell, seen: Seen, *, guessed: bool = False) -> None:
        told = cells.deviation(cell, seen, guessed=guessed)
        self.add(cell.name, cell.role, MARKS[cell.declared], f"{cell.shown}: {told}" if told else "")


def main(
    postgres: Annotated[bool, typer.Option("--postgres", help="On PostgreSQL instead of SQLite.")] = False,
) -> None:
    """Ask for every cell; exit 1 when one is not as declared, 2 where nothing is declared."""
    isolate()
    began = time.monotonic()
    table = _table()
    roles, by_hand = Roles.load(ROOT / "config" / "roles.toml").names, {**table.get("routes", {}), **DECLARED}
    matrix = Matrix(table["permissions"], roles, by_hand, table.get("tools", {}))
    _roles(matrix)
    routes = all_routes()
    with tempfile.TemporaryDirectory(prefix="matrix-") as home, _databases(Path(home), postgres=postgres) as new:
        with (
            issuer() as trusted,
            # Offline models answer chats and embeddings: what the rig's provider makes of them shows nothing here.
            opened(new(), Path(home), EMBEDDED_WORKER="false", MODEL_PROVIDER="offline", **_provider(trusted)) as world,
        ):
            _routes(matrix, world, routes, trusted)
        with opened(new(), Path(home)) as world:
            _tools(matrix, world)
    _show(matrix, routes)
    held = not matrix.deviations
    found = {
        "cells": dict(matrix.counts),
        "deviations": matrix.deviations,
        "database": "postgresql" if postgres else "sqlite",
    }
    suites.keep(suites.MATRIX, ok=held, complete=True, **found)
    for told in matrix.deviations:
        out.print(f"[red]✘[/] {escape(told)}", soft_wrap=True)
    out.print("[dim]" + " · ".join(f"{what}: {count:,}" for what, count in matrix.counts.items()) + "[/]")
    verdict = "[green]all as declared[/]" if held else f"[red]{len(matrix.deviations)} not as declared[/]"
    out.print(f"{matrix.counts.total():,} cells, {verdict} in {time.monotonic() - began:.0f} s")
    raise SystemExit(0 if held else 1)


def _provider(trusted: Issuer) -> dict[str, Any]:
    return dict(trusted.sign_in_settings)


def _table() -> dict[str, Any]:
    try:
        found = tomllib.loads(FILE.read_text(encoding="utf-8"))
        found["permissions"]
    except (OSError, KeyError, ValueError) as error:
        print(
            f"config/matrix.toml cannot be read ({type(error).__name__}): it has a table [permissions], with a line "
            'for each of them, as "thing:verb" = ["role", "role"]',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    return found


def _roles(matrix: Matrix) -> None:
    """config/roles.toml grants exactly what config/matrix.toml says."""
    roles = Roles.load(ROOT / "config" / "roles.toml")
    unknown = sorted({role for held in matrix.holders.values() for role in held} - set(roles.names))
    matrix.deviations += [f"config/matrix.toml names the role {role}, which does not exist" for role in unknown]
    for permission in sorted(roles.all_permissions | set(matrix.holders)):
        for role in roles.names:
            granted, meant = permission in roles.permissions([role]), role in matrix.holders.get(permission, ())
            told = f"{role}: {permission} is {'' if granted else 'not '}granted by roles.toml and "
            told += f"{'' if meant else 'not '}meant by matrix.toml"
            matrix.add(permission, role, "", "" if granted == meant else told, "grants")


@contextmanager
def _databases(folder: Path, *, postgres: bool) -> Any:
    with postgres_databases() if postgres else sqlite_databases(folder) as new:
        made: NewDatabase = new
        yield made


def _routes(matrix: Matrix, world: World, routes: Sequence[Route], trusted: Issuer) -> None:
    store = Store.at(world.owner_url)
    [owner] = world.people([])
    theirs = seeded(store, owner.tenant_id)
    store.add(of_features(owner.tenant_id))
    lendable = [role for role in Roles.load(world.config / "roles.toml").lendable if role in matrix.roles]
    askers: dict[str, Asker] = {}
    for role in (*matrix.roles, ROLELESS, NOBODY):
        [who] = world.people([] if role in {ROLELESS, NOBODY} else [role])
        may = frozenset(permission for permission, holders in matrix.holders.items() if role in holders)
        world.link(who, trusted.url, who.member_id)
        standing = seeded(store, who.tenant_id)
        person = None if role == NOBODY else who
        another = next(other for other in lendable if other != role)
        askers[role] = Asker(world, store, person, who.tenant_id, standing, theirs, lendable[0], another, may, trusted)
    for route in routes:
        for role, asker in askers.items():
            if route.is_public and role != NOBODY:
                continue
            for whose in SIDES[: 1 if route.is_public else 2]:
                needed = cells.needs(route, matrix.by_hand)
                cell = cells.declare(route, needed, role, whose, matrix.holders, about_one=names_object(route))
                guessed = not route.is_console and not route.is_public and cell.name not in DECLARED
                matrix.judge(cell, asker.seen(route, whose), guessed=guessed)
    _other_verbs(matrix, world, routes, askers)
    _unseen(matrix)


def _other_verbs(matrix: Matrix, world: World, routes: Sequence[Route], askers: Mapping[str, Asker]) -> None:
    """Verbs that a path does not declare, and what only the inside of the network may read, on the open port."""
    paths = dict.fromkeys(route.at(name="runs", **askers[NOBODY].standing) for route in routes)
    more = [(p, verb) for p in paths for verb in VERBS if not any(r.method == verb and r.matches(p) for r in routes)]
    for role, asker in askers.items():
        for path, verb in (*more, *((path, "GET") for path in OPERATIONS)):
            answer = world.service.call(asker.who, verb, path)
            cell = Cell(role, verb, path, "own", "refused")
            told = cells.deviation(cell, Seen(answer.status_code))
            matrix.add("what no route declares", role, "", f"{cell.shown}: {told}" if told else "", "other verbs")
    for path in OPERATIONS:
        answer = world.service.operations(path)
        matrix.judge(Cell(NOBODY, "GET", f"{path} (operations port)", "own", "public"), Seen(answer.status_code))


def _unseen(matrix: Matrix) -> None:
    """A route that is no operation of the API has no guard that could be read: there is one, the contract's."""
    app = create_app(load_settings(environment="test"))
    for context in iter_route_contexts(app.routes):
        path = str(getattr(context.route, "path", context.route))
        known = isinstance(context.route, APIRoute) or path == "/openapi.json"
        matrix.add("routes without a guard", NOBODY, "", "" if known else f"{path} is no route with a guard")


def _tools(matrix: Matrix, world: World) -> None:
    specs = [spec for feature in FEATURES for spec in feature.tools]
    rules = tools.rules(world.config)
    people: dict[str, Person] = {}
    for role in (*matrix.roles, ROLELESS):
        [people[role]] = world.people([STARTER] if role == ROLELESS else [role, STARTER])
    asked: list[ToolCell] = [
        tools.declare(role, spec, matrix.tools.get(spec.name, spec.permission), matrix.holders, rules)
        for role in people
        for spec in specs
    ]
    for cell, seen in zip(asked, tools.observed(world, people, asked), strict=True):
        told = tools.deviation(cell, seen)
        matrix.add(
            f"tool {cell.tool}", cell.role, TOOL_MARKS[cell.outcome], f"{cell.shown}: {told}" if told else "", "tools"
        )


def _show(matrix: Matrix, routes: Sequence[Route]) -> None:
    columns = (*matrix.roles, ROLELESS, NOBODY)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("", "needs", *(column.replace("_", " ") for column in columns)):
        table.add_column(name, justify="left" if name in {"", "needs"} else "center", no_wrap=name == "")
    rows = [(f"{route.method} {route.path}", cells.needs(route, matrix.by_hand) or "public") for route in routes]
    rows += [(f"GET {path} (operations port)", "inside") for path in OPERATIONS]
    rows += [
        (f"tool {spec.name}", matrix.tools.get(spec.name, spec.permission))
        for feature in FEATURES
        for spec in feature.tools
    ]
    for row, needed in rows:
        table.add_row(escape(row), needed, *(matrix.marks.get((row, column), "") for column in columns))
    out.print(table)
    out.print("[dim]own, then another tenant's: ✔ let in · like an object that nobody has ✘ denied, nothing done[/]")
    out.print("[dim]tools: ✔ done ? a person is asked ✘ not offered, and refused[/]")


if __name__ == "__main__":
    typer.run(main)
