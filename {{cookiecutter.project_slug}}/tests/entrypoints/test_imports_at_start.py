"""What `app --help` and `app serve` import: a library that joins them is paid for by every start of every process.

A library that most processes never use is imported where it is used, marked `# noqa: PLC0415 - <why>`
(docs/decisions/template/0022-imports-where-they-are-used.md). `make benchmarks` measures what a start costs.
"""

import os
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer

from app import entrypoints
from app.entrypoints.cli import COMMANDS, GROUPS, load
from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.service import Service

HELP = frozenset({"annotated_doc", "app", "attr", "markdown_it", "mdurl", "pygments", "rich", "shellingham", "typer"})
HELP_OF_OURS = frozenset({"app", "app.entrypoints", "app.entrypoints.cli", "app.entrypoints.terminal"})
SERVE = HELP | {
    # --- what the service is made of ---
    "aiosqlite", "anyio", "cryptography", "dbos", "fastapi", "genai_prices", "httptools", "httpx2", "itsdangerous",
    "jinja2", "jwt", "limits", "opentelemetry", "prometheus_client", "psycopg", "pydantic", "pydantic_ai",
    "pydantic_settings", "python_multipart", "rfc8785", "secure", "sqlalchemy", "starlette", "stdnum", "structlog",
    "uuid_utils", "uvicorn", "uvloop", "wcwidth",
    # --- what these import ---
    "annotated_types", "click", "croniter", "dateutil", "deprecated", "dotenv", "greenlet", "griffe", "h11",
    "httpcore2", "idna", "logfire_api", "markupsafe", "packaging", "psycopg_binary", "pydantic_core", "pydantic_graph",
    "sniffio", "socksio", "truststore", "typing_extensions", "typing_inspection", "watchfiles", "wrapt", "yaml",
    # --- what your features import ---
}  # fmt: skip
# Parts of these that a process imports only where its settings or its requests ask for them.
NOT_TO_SERVE = (
    "app.content.reader", "app.entrypoints.commands_evals", "app.entrypoints.commands_tools", "app.evals",
    "opentelemetry.exporter", "opentelemetry.instrumentation", "opentelemetry.sdk", "pydantic_ai.mcp",
)  # fmt: skip
ADVICE = (
    "Import it in the function that uses it, marked `# noqa: PLC0415 - <why>`, or for types alone under TYPE_CHECKING. "
    "If every such process does use it, add it to the list here."
)
RECORDED = """
import atexit, os, pathlib, sys
atexit.register(lambda: pathlib.Path(os.environ["IMPORTED_FILE"]).write_text("\\n".join(sys.modules)))
from app.entrypoints.cli import main
main()
"""
STANDARD = frozenset(sys.stdlib_module_names)


def _libraries(modules: set[str]) -> set[str]:
    """Top-level names that are not the standard library's; a leading underscore is a part of another.

    What a machine has every Python import (Debian's has a `sitecustomize`) is not the service's."""
    tops = {module.partition(".")[0] for module in modules}
    return {top for top in tops - STANDARD if not top.startswith("_")} - {
        "cython_runtime",
        "sitecustomize",
        "usercustomize",
    }


def test_help_imports_the_command_line_alone(tmp_path: Path) -> None:
    told = tmp_path / "imported"
    environment = {**os.environ, "IMPORTED_FILE": str(told), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", RECORDED, "--help"]
    subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    modules = set(told.read_text().split())
    assert "app.entrypoints.cli" in modules
    newcomers = _libraries(modules) - HELP
    assert not newcomers, f"`app --help` now imports {', '.join(sorted(newcomers))}. {ADVICE}"
    ours = {module for module in modules if module.partition(".")[0] == "app"} - HELP_OF_OURS
    assert not ours, f"`app --help` now imports {', '.join(sorted(ours))}. {ADVICE}"


def test_serving_imports_what_it_serves_with(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    told = tmp_path / "imported"
    # `gates.rig.service` starts a module; this one is `app` that writes down what it has imported when it ends.
    (tmp_path / "recorded.py").write_text(RECORDED)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    service = Service(new_sqlite(), tmp_path / "log", {"IMPORTED_FILE": str(told), "PYTHONPATH": path}, "recorded")
    service.start()
    assert service.stop() == 0
    modules = set(told.read_text().split())
    assert "app.entrypoints.serving" in modules
    newcomers = _libraries(modules) - SERVE
    assert not newcomers, f"`app serve` now imports {', '.join(sorted(newcomers))}. {ADVICE}"
    early = sorted(module for module in modules if f"{module}.".startswith(tuple(f"{part}." for part in NOT_TO_SERVE)))
    assert not early, f"`app serve` now imports {', '.join(early)}. {ADVICE}"


@pytest.mark.parametrize("name", [*COMMANDS, *GROUPS])
def test_help_says_of_a_deferred_command_what_the_command_says(name: str) -> None:
    deferred = {**COMMANDS, **GROUPS}[name]
    assert load(name, deferred).help == deferred.help


def test_every_group_of_commands_is_on_the_command_line() -> None:
    reached = {(deferred.module, deferred.attribute) for deferred in GROUPS.values()}
    for module in pkgutil.iter_modules(entrypoints.__path__):
        if module.name.startswith("commands_"):
            parts = vars(import_module(f"app.entrypoints.{module.name}"))
            groups = {(module.name, name) for name, part in parts.items() if isinstance(part, typer.Typer)}
            assert groups <= reached, f"add {groups - reached} to GROUPS in app/entrypoints/cli.py"
