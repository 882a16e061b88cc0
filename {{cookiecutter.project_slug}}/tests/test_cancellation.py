"""Every place that shields, or starts a task or a thread, is known, with the reason why it is right.

An anyio shield does not hold native cancellation back: what has to end goes through `app.background`. And a task that a
request starts carries that request's context, unless it is started there.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.settings import ROOT

SHIELDS = {
    ("background.py", "run_to_completion"): "the work is in a task of its own; anyio would only spin meanwhile",
    ("db/engine.py", "_in_time"): "spares a connection when a client hangs up; the transaction stands natively without",
    ("identity/oidc.py", "find"): "asyncio's own, around a task of its own that others wait for as well",
}
STARTS = {
    ("background.py", "start_detached"): "in an empty context",
    ("background.py", "run_to_completion"): "in its caller's context, and it ends before its caller goes on",
    ("api/answer_stream.py", "__call__"): "ends with the request, in its task group",
    ("api/embedding_request.py", "_texts"): "bounded work without a store; who leaves does not wait for it",
    ("runs/segment.py", "_watched"): "ends with the segment, in its task group",
    ("entrypoints/web.py", "lifespan"): "started with the process, outside of any request",
    ("entrypoints/serving.py", "_serve"): "started with the process, outside of any request",
    ("entrypoints/serving.py", "_work"): "started with the process, outside of any request",
    ("tools/egress.py", "_resolved"): "a thread that resolves one name, and keeps no context",
    ("runs/engine.py", "running_worker"): "the end of a worker, which is started with its process",
    ("runs/engine.py", "_end"): "a thread at the end of the process",
    ("runs/engine.py", "_stop_engine"): "a thread at the end of the process",
    ("entrypoints/operations.py", "watched"): "started with the process, outside of any request",
    ("db/changes.py", "_listen"): "in an empty context",
    ("entrypoints/connection.py", "close"): "in an empty context",
    ("entrypoints/connection.py", "connection_made"): "in an empty context",
    ("entrypoints/connection.py", "_await_reader"): "in an empty context",
    ("entrypoints/connection.py", "on_message_begin"): "in an empty context",
    ("entrypoints/connection.py", "on_response_complete"): "in an empty context",
    ("db/direct.py", "__init__"): "a thread: it inherits no context",
    ("db/direct.py", "run"): "loop.run_in_executor hands over no context; runs to completion in `Database`",
    ("rollout/synthetic.py", "send"): "threads of a command line, which ends with them",
    ("content/documents.py", "_read"): "a process, which is killed when its caller leaves",
}
STARTERS = frozenset({
    "create_task", "ensure_future", "TaskGroup", "create_task_group", "gather", "as_completed", "wait_for",
    "run_coroutine_threadsafe", "run_in_executor", "to_thread", "run_sync", "run_process", "open_process",
    "create_subprocess_exec", "create_subprocess_shell", "call_later", "call_at", "call_soon", "start_blocking_portal",
    "Thread", "Timer", "ThreadPoolExecutor", "ProcessPoolExecutor", "BackgroundTask", "BackgroundTasks",
    "run_in_threadpool",
})  # fmt: skip
NOT_A_THREAD = frozenset({"session", "connection"})  # SQLAlchemy's run_sync goes to a greenlet of the same task
Place = tuple[str, str]


def _calls(folder: Path) -> Iterator[tuple[Place, ast.Call]]:
    for path in sorted(folder.rglob("*.py")):
        yield from _calls_in(path.relative_to(folder).as_posix(), ast.parse(path.read_text()), "")


def _calls_in(file: str, node: ast.AST, function: str) -> Iterator[tuple[Place, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        inside = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if isinstance(child, ast.Call):
            yield (file, inside), child
        yield from _calls_in(file, child, inside)


def _name(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _owner(call: ast.Call) -> str:
    match call.func:
        case ast.Attribute(value=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name
    return ""


def _shields(call: ast.Call) -> bool:
    said = any(keyword.arg == "shield" for keyword in call.keywords)
    return said or (_name(call) == "shield" and _owner(call) == "asyncio")


def _starts(call: ast.Call) -> bool:
    return _name(call) in STARTERS and not (_name(call) == "run_sync" and _owner(call) in NOT_A_THREAD)


def shields(folder: Path) -> set[Place]:
    found = {place for place, call in _calls(folder) if _shields(call)}
    for path in folder.rglob("*.py"):  # `scope.shield = True`
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "shield" and isinstance(node.ctx, ast.Store):
                found.add((path.relative_to(folder).as_posix(), "an assignment"))
    return found


def starts(folder: Path) -> set[Place]:
    return {place for place, call in _calls(folder) if _starts(call)}


def test_every_shield_is_known_with_its_reason() -> None:
    assert shields(ROOT / "app") == set(SHIELDS), (
        "A shielded scope is passed by task.cancel(), asyncio.timeout and TaskGroup. Use "
        "app.background.run_to_completion; or, where anyio's cancellation alone is meant, say why in SHIELDS."
    )


def test_every_task_and_thread_is_known_with_its_reason() -> None:
    assert starts(ROOT / "app") == set(STARTS), (
        "A task that outlives its request logs that request's id. Use app.background.start_detached; or, where it ends "
        "with who started it, say why in STARTS."
    )


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ("anyio.CancelScope(shield=True)", shields),
        ("anyio.move_on_after(1, shield=True)", shields),
        ("asyncio.shield(work)", shields),
        ("scope.shield = True", shields),
        ("asyncio.get_running_loop().create_task(work())", starts),
        ("asyncio.create_task(work())", starts),
        ("anyio.create_task_group()", starts),
        ("anyio.to_thread.run_sync(work)", starts),
        ("loop.run_in_executor(None, work)", starts),
        ("threading.Thread(target=work)", starts),
        ("BackgroundTasks()", starts),
    ],
)
def test_a_new_one_is_found(tmp_path: Path, line: str, kind: object) -> None:
    (tmp_path / "new.py").write_text(f"async def handler():\n    {line}\n")
    assert callable(kind)
    assert len(kind(tmp_path)) == 1


def test_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "new.py").write_text("async def handler(session):\n    await session.run_sync(work)\n    look()\n")
    assert shields(tmp_path) == starts(tmp_path) == set()
