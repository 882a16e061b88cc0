"""What only reads takes no write lock and says so by `Database.read`; a write in one is refused on both databases."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import select

from app.db.base import new_id, utc_now
from app.db.connections import sync_engine
from app.db.reads import WriteInRead
from app.db.tenancy import ALL_TENANTS
from app.identity.models import Member, Tenant
from app.runtime import Runtime
from app.settings import ROOT
from gates.rig import people
from gates.rig.databases import owner_of

TRANSACTION = {"transaction"}
WRITING_METHODS = {"add", "add_all", "delete", "merge", "flush", "with_for_update", "bulk_save_objects", "begin_nested"}
WRITING_FUNCTIONS = {"update", "insert", "delete", "text"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _is_given_session(call: ast.Call) -> bool:
    given = [node.id for argument in call.args for node in ast.walk(argument) if isinstance(node, ast.Name)]
    return "session" in given or "s" in given or "connection" in given


def _changes_attribute(node: ast.AST) -> bool:
    if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        return False
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    flat = [each for target in targets for each in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return any(isinstance(target, ast.Attribute) for target in flat)


def _is_writing_call(call: ast.Call) -> bool:
    name = _name(call)
    if isinstance(call.func, ast.Attribute):
        by_name = name in WRITING_METHODS or getattr(call.func.value, "id", "") == "trail"
    else:
        by_name = name in WRITING_FUNCTIONS
    return by_name or any(keyword.arg == "with_for_update" for keyword in call.keywords)


def _writes(node: ast.AST, known: dict[str, list[Function]], seen: frozenset[str] = frozenset()) -> bool:
    """Whether this code writes, or hands its session to a function that does."""
    inside = list(ast.walk(node))
    calls = [each for each in inside if isinstance(each, ast.Call)]
    if any(map(_changes_attribute, inside)) or any(map(_is_writing_call, calls)):
        return True
    handed = {_name(call) for call in calls if _is_given_session(call)} - seen
    return any(_writes(function, known, seen | handed) for name in handed for function in known.get(name, ()))


def read_only_uses(folder: Path) -> list[tuple[Path, int]]:
    """Every `with ….transaction(…)` below a folder whose function writes nothing."""
    trees = {path: ast.parse(path.read_text()) for path in sorted(folder.rglob("*.py"))}
    known: dict[str, list[Function]] = {}
    for tree in trees.values():
        for function in _functions(tree):
            known.setdefault(function.name, []).append(function)
    found = set()
    for path, tree in trees.items():
        for function in _functions(tree):
            blocks = [node for node in ast.walk(function) if isinstance(node, ast.AsyncWith)]
            for block in blocks:
                calls = [item.context_expr for item in block.items if isinstance(item.context_expr, ast.Call)]
                opens = [call for call in calls if _name(call) in TRANSACTION]
                if opens and not any(_writes(each, known) for each in _statements(function, block)):
                    found.add((path, opens[0].lineno))
    return sorted(found)


def _statements(function: Function, block: ast.AsyncWith) -> list[ast.AST]:
    """The block, and what is built before it: a statement is often put together outside."""
    inside = {id(node) for other in ast.walk(function) if isinstance(other, ast.AsyncWith) for node in ast.walk(other)}
    outside = [node for node in ast.walk(function) if isinstance(node, ast.Assign) and id(node) not in inside]
    built = [node for node in outside if not any(isinstance(target, ast.Attribute) for target in node.targets)]
    return [*block.body, *built]


def test_what_only_reads_opens_a_read_transaction() -> None:
    found = [f"{path.relative_to(ROOT)}:{line}" for path, line in read_only_uses(ROOT / "app")]
    assert not found, f"these write nothing: open `db.read(…)` in place of `db.transaction(…)`: {', '.join(found)}"


def test_the_check_tells_reading_from_writing(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(
        "async def reads(db, scope):\n"
        "    query = select(Run)\n"
        "    async with db.transaction(scope) as session:\n"
        "        return await session.scalar(query)\n"
        "async def hands_on(db, scope):\n"
        "    async with db.transaction(scope) as session:\n"
        "        await _end(session, 1)\n"
        "async def _end(session, run):\n"
        "    run.state = 'ended'\n"
        "async def writes(db, scope):\n"
        "    statement = update(Run)\n"
        "    async with db.transaction(scope) as session:\n"
        "        await session.execute(statement)\n"
    )
    assert [line for _, line in read_only_uses(tmp_path)] == [3]


@pytest.mark.anyio
async def test_reads_go_on_while_another_process_holds_the_write_lock(runtime: Runtime, database_url: str) -> None:
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])
    other = sync_engine(owner_of(database_url))
    with other.begin() as holder:
        holder.execute(sa.text("UPDATE members SET name = 'held' WHERE name = 'nobody'"))
        async with runtime.db.read(mine.principal) as session:
            assert await session.scalar(select(Member.id)) == mine.member_id
        assert await runtime.intake.page(mine.principal, before=None, limit=10) == []
        assert await runtime.directory.names(mine.principal, [mine.member_id]) == {mine.member_id: mine.name}
    other.dispose()


async def _write_in_read(runtime: Runtime, tenant_id: str, how: str) -> None:
    async with runtime.db.read(ALL_TENANTS) as session:
        match how:
            case "row":
                session.add(Tenant(id=new_id(), name=new_id(), created_at=utc_now()))
            case "changed row":
                (await session.get_one(Tenant, tenant_id)).name = "changed"
            case "bulk":
                await session.execute(sa.update(Tenant).values(tier=None))
            case "text":
                await session.execute(sa.text("UPDATE tenants SET tier = NULL"))
            case _:
                await session.scalar(select(Tenant).with_for_update())


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["row", "changed row", "bulk", "text", "lock"])
async def test_a_write_in_a_read_transaction_is_refused(runtime: Runtime, how: str) -> None:
    tenant_id = await people.tenant(runtime)
    with pytest.raises(WriteInRead, match=r"use `Database\.transaction`"):
        await _write_in_read(runtime, tenant_id, how)
    async with runtime.db.read(ALL_TENANTS) as session:
        assert await session.scalar(select(Tenant.name).where(Tenant.id == tenant_id)) != "changed"


@pytest.mark.anyio
async def test_a_read_transaction_sees_its_tenant_alone(runtime: Runtime) -> None:
    mine = await people.person(runtime, await people.tenant(runtime), ["member"])
    await people.person(runtime, await people.tenant(runtime), ["member"])
    async with runtime.db.read(mine.principal) as session:
        assert list(await session.scalars(select(Member.id))) == [mine.member_id]
