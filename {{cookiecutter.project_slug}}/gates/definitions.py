"""The top-level definitions of a Python file, and which of them one definition needs: its names and its fixtures."""

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
ALWAYS = "(always)"  # statements that bind no name, and names that pytest reads by itself
READ_BY_PYTEST = {"pytestmark", "pytest_plugins"}


@dataclass
class Definitions:
    """One file: each top-level name with the statements that bind or change it, and what it imports."""

    text: str
    statements: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)  # local name: (module, name within, or "")

    @classmethod
    def load(cls, file: Path) -> "Definitions":
        text = file.read_text(encoding="utf-8")
        found = cls(text)
        for statement in ast.parse(text).body:
            if isinstance(statement, ast.ImportFrom | ast.Import):
                found.imports |= imported(statement)
                continue
            for name in _bound(statement):
                found.statements.setdefault(name, []).append(statement)
        return found

    @cached_property
    def plugins(self) -> tuple[str, ...]:
        """The modules named in `pytest_plugins`."""
        return tuple(
            module for statement in self.statements.get("pytest_plugins", []) for module in _strings([statement])
        )

    @cached_property
    def fixtures(self) -> set[str]:
        """Functions at the top level: any of them may be a fixture, which is used by its name."""
        return {name for name, found in self.statements.items() if any(isinstance(s, FUNCTIONS) for s in found)}

    def segment(self, name: str) -> str:
        """The source of a name's statements, without comments and docstrings: what of it runs."""
        return "\n".join(
            runs("\n".join(self.text.splitlines()[first(s) - 1 : s.end_lineno])) for s in self.statements.get(name, [])
        )

    def used_by(self, name: str) -> set[str]:
        """Every name that the statements of `name` mention, as a name, an argument (a fixture) or a string."""
        return set(mentioned(self.statements.get(name, [])))


def imported(statement: ast.stmt) -> dict[str, tuple[str, str]]:
    """Local names bound by an import: each with its module and, for `from`, the name within it."""
    if isinstance(statement, ast.Import):
        return {a.asname or a.name.partition(".")[0]: (a.name, "") for a in statement.names}
    if isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
        return {a.asname or a.name: (statement.module, a.name) for a in statement.names}
    return {}


def mentioned(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for node in _nodes(statements):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # request.getfixturevalue("world"), usefixtures("world"), a quoted annotation


def runs(text: str) -> str:
    """A Python text without its comments and docstrings, whatever the Python: it runs as before if this is the same.

    The text itself and not a dump of its tree, which differs from one Python version to the next."""
    lines = text.splitlines()
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        for docstring in _docstring(node):
            left_out.update(range(docstring.lineno, (docstring.end_lineno or docstring.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(text).readline) if "#" in text else ():
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
            if not lines[row - 1]:
                left_out.add(row)
    return "\n".join(line for number, line in enumerate(lines, 1) if number not in left_out)


def first(statement: ast.stmt) -> int:
    """The line where it begins, its decorators included."""
    decorators: list[ast.expr] = getattr(statement, "decorator_list", [])
    return min([statement.lineno, *(each.lineno for each in decorators)])


def _docstring(node: ast.AST) -> Iterator[ast.stmt]:
    """The docstring's statement, where other statements follow it: one that stands alone is the body."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and len(node.body) > 1:
        begin = node.body[0]
        if isinstance(begin, ast.Expr) and isinstance(begin.value, ast.Constant) and isinstance(begin.value.value, str):
            after = node.body[1]
            if first(after) > (begin.end_lineno or begin.lineno):
                yield begin


def _bound(statement: ast.stmt) -> set[str]:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return set()  # a docstring
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        automatic = any("autouse" in ast.dump(decorator) for decorator in statement.decorator_list)
        return {statement.name, ALWAYS} if automatic else {statement.name}
    if isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = {_base(target) for each in targets for target in getattr(each, "elts", [each])}
        return names | {ALWAYS} if names & {*READ_BY_PYTEST, ""} else names
    return {ALWAYS}


def _base(target: ast.expr) -> str:
    """The name that is bound or changed: `TABLE` of `TABLE["row"].field = 1`; empty for what has none."""
    while isinstance(target, ast.Attribute | ast.Subscript | ast.Starred):
        target = target.value
    return target.id if isinstance(target, ast.Name) else ""


def _nodes(statements: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    for statement in statements:
        yield from ast.walk(statement)


def _strings(statements: Iterable[ast.stmt]) -> Iterator[str]:
    for node in _nodes(statements):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
