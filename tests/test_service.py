"""A generated service as its first user meets it: installed, checked, tested and played, from the README alone.

Each of the service's own tests runs once: the example's and those on PostgreSQL in test 2, all others in test 5.
"""

import json
import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

from tests.conftest import TEMPLATE
from tests.generated import copy, make, succeeds

pytestmark = pytest.mark.service


def test_1_setup_installs_and_commits_the_pristine_output(project: Path) -> None:
    assert "Next: make demo" in succeeds(project, "setup")
    first = subprocess.run(["git", "log", "--format=%s"], cwd=project, capture_output=True, text=True, check=True)
    assert first.stdout.splitlines() == ["chore: generate the service from its template"]
    assert "SESSION_SECRET=set-by-make-setup" not in (project / ".env").read_text()
    assert "Next: make demo" in succeeds(project, "setup"), "setup can be repeated"
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


def test_2_check_passes_with_the_service_s_own_tests(project: Path) -> None:
    # The proofs are run by tests/test_gates.py, the whole of them.
    shown = succeeds(project, "lint", "types", "test", "evals", ARGS="-k 'postgresql or assistant'")
    assert "lint: ok" in shown
    assert "Success: no issues found" in shown
    assert "20 cases" in shown
    assert _passed(shown) > 400


def _passed(shown: str) -> int:
    """How many of the service's tests passed, where none failed and none was skipped."""
    [outcome] = [line for line in shown.splitlines() if re.search(r"\d+ passed", line)]
    print(outcome)
    assert not re.search("failed|skipped|error", outcome), outcome
    return int(re.findall(r"(\d+) passed", outcome)[0])


def test_3_the_demo_tells_the_whole_story(project: Path) -> None:
    shown = succeeds(project, "demo", ONCE="1")
    for words in ("parked", "another person must decide", "tickets now: 1", "402 budget.exceeded", "intact: True"):
        assert words in shown
    assert shown.count("✔") == 13


def test_4_a_client_made_from_the_contract_plays_the_critical_flow(project: Path) -> None:
    shown = succeeds(project, "e2e")
    assert "✘" not in shown
    assert shown.count("✔") == 14


def test_5_without_the_example_everything_else_still_passes(project: Path, workshop: Path) -> None:
    """The recipe of docs/template.md, followed to the letter."""
    clone = copy(project, workshop)
    for path in ("app/features/assistant", "tests/features/assistant"):
        shutil.rmtree(clone / path)
    (clone / "scripts" / "demo.py").unlink()
    (clone / "app" / "features" / "__init__.py").write_text(
        '"""The product\'s capabilities, one folder each."""\n\n'
        "from app.manifest import Feature\n\nFEATURES: tuple[Feature, ...] = ()\n"
    )
    succeeds(clone, "setup", "lint", "types")
    succeeds(clone, "migration", "M=drop tickets")
    succeeds(clone, "lint", "types")
    shown = succeeds(clone, "test", "ARGS=-k 'not postgresql'")
    assert _passed(shown) > 1_500


def test_5b_a_second_feature_touches_only_what_belongs_to_the_user(project: Path, workshop: Path) -> None:
    """The README's five steps, with the tools exactly as docs/tools.md writes them."""
    clone = copy(project, workshop)
    assert "wrote openapi.released.json" in succeeds(clone, "released")
    parts = TEMPLATE / "tests" / "second_feature"
    shutil.copytree(parts / "library", clone / "app" / "features" / "library")
    shutil.copytree(parts / "checks", clone / "tests" / "features" / "library")
    blocks = re.findall(r"```python\n(.*?)```", (clone / "docs" / "tools.md").read_text(), re.DOTALL)
    assert len(blocks) == 4
    (clone / "app" / "features" / "library" / "tools.py").write_text("\n\n".join(blocks))
    features = clone / "app" / "features" / "__init__.py"
    features.write_text(
        features.read_text()
        .replace("from app.manifest", "from app.features.library import FEATURE as LIBRARY\nfrom app.manifest")
        .replace("(ASSISTANT,)", "(ASSISTANT, LIBRARY)")
    )
    roles = clone / "config" / "roles.toml"
    roles.write_text(
        roles.read_text().replace(
            'member = ["runs:read",',
            'member = ["loans:read", "loans:write", "loans:delete", "loans:post", "runs:read",',
        )
    )
    succeeds(clone, "setup", "format", "migration", "M=add loans")
    looked_at = "tests/features/library tests/db/test_migrations.py tests/api/test_routes.py"
    shown = succeeds(clone, "lint", "types", "compatible", "evals", "test", f"ARGS={looked_at}")
    assert " failed" not in shown
    assert "compatible: ok" in shown
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    changed = {line[3:] for line in status.stdout.splitlines()}
    users = (
        "app/features/", "tests/features/", "config/", "migrations/app/", "uv.lock",
        "openapi.released.json", "schema.released.json",
    )  # fmt: skip
    assert changed
    assert {path for path in changed if not path.startswith(users)} == set()


def test_5c_the_readme_s_commands_work_when_they_are_pasted_at_once(project: Path, workshop: Path) -> None:
    clone = copy(project, workshop)
    succeeds(clone, "setup", "migrate")
    blocks = re.findall(r"```sh\n(.*?)```", (clone / "README.md").read_text(), re.DOTALL)
    people, requests = [next(b for b in blocks if words in b) for words in ("app tenants add", "approvals?state")]
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        port, operations_port = (str(free.getsockname()[1]) for free in (one, other))
    environment = {**os.environ, "PORT": port, "OPERATIONS_PORT": operations_port}
    with (workshop / "service.log").open("wb") as log:
        service = subprocess.Popen([clone / ".venv/bin/app", "serve"], cwd=clone, env=environment, stderr=log)
    try:
        wait = f"until curl -sf http://127.0.0.1:{port}/readyz >/dev/null; do sleep 0.2; done\n"
        pasted = wait + people + requests.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
        shell = subprocess.run(
            ["bash", "-c", pasted], cwd=clone, capture_output=True, text=True, timeout=300, check=False
        )
        shown = (workshop / "service.log").read_text()
    finally:
        service.terminate()
        service.wait(60)
    assert "Traceback" not in shell.stderr
    started, asked, decided, ended = [json.loads(line) for line in shell.stdout.splitlines() if line.startswith("{")]
    assert started["state"] == "waiting"
    assert decided["id"] == asked["items"][0]["id"]
    assert ended["items"][0]["state"] == "succeeded"
    assert "warning" not in shown.lower(), shown
    assert len(shown.splitlines()) == len(set(shown.splitlines())), shown


@pytest.mark.parametrize("target", ["setup", "demo"])
def test_6_without_a_package_index_one_message_says_so(tmp_path: Path, target: str) -> None:
    answers = {"project_name": "Desk"}
    fresh = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), extra_context=answers))
    nowhere = "http://127.0.0.1:9/simple"
    cache = str(tmp_path / "cache")
    done = make(fresh, target, UV_DEFAULT_INDEX=nowhere, PIP_INDEX_URL=nowhere, UV_CACHE_DIR=cache, PIP_CACHE_DIR=cache)
    assert done.returncode != 0
    assert "Is the package index reachable from here?" in done.stdout
    assert "Traceback" not in done.stdout


def test_7_an_old_or_missing_python_is_named(tmp_path: Path) -> None:
    answers = {"project_name": "Desk"}
    fresh = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), extra_context=answers))
    done = make(fresh, "setup", PYTHON="python9.99")
    assert done.returncode != 0
    assert "no python9.99 found; install Python 3.11 or newer" in done.stdout
