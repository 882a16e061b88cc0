"""Text that a caller sent is never a pattern of SQL: `%` and `_` in it would match what nobody searched for."""

import ast
from pathlib import Path

import pytest

from app.settings import ROOT

PATTERNS = frozenset({"like", "ilike", "not_like", "not_ilike", "notlike", "notilike", "regexp_match"})
ESCAPES = frozenset({"contains", "icontains", "istartswith", "iendswith"})  # no method of str has these names
ON_COLUMNS = frozenset({"startswith", "endswith"})  # str has them: only those of Model.column are looked at


def _faults(source: str, name: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        method, escaped = node.func.attr, any(word.arg == "autoescape" for word in node.keywords)
        if method in PATTERNS:
            found.append(f"{name}:{node.lineno}: .{method}() takes a pattern; use .icontains(text, autoescape=True)")
        elif (method in ESCAPES or (method in ON_COLUMNS and _of_a_model(node.func.value))) and not escaped:
            found.append(f"{name}:{node.lineno}: .{method}() without autoescape=True")
    return found


def _of_a_model(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id[:1].isupper()


def test_no_query_takes_a_callers_text_for_a_pattern() -> None:
    files = list((ROOT / "app").rglob("*.py"))
    assert len(files) > 50
    assert [fault for file in files for fault in _faults(file.read_text(), str(file.relative_to(ROOT)))] == []


@pytest.mark.parametrize(
    "planted",
    ["Ticket.title.ilike(x)", "column.like(f'%{word}%')", "column.icontains(word)", "Ticket.title.startswith(word)"],
)
def test_a_planted_one_is_found(planted: str, tmp_path: Path) -> None:
    assert len(_faults(f"query.where({planted})", "a.py")) == 1
