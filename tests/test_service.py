"""A generated service as its first user meets it: installed, checked, tested and played, from the README alone."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from cookiecutter.main import cookiecutter

from tests.conftest import NASTY, TEMPLATE

pytestmark = pytest.mark.service
KEPT = (
    "HOME",
    "LANG",
    "TMPDIR",
    "SSL_CERT_FILE",
    "UV_CACHE_DIR",
    "PIP_CERT",
    "PIP_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "CI",
)
# uv of the template's own tools: a user's machine has one or gets one by `make setup`.
PATH = os.pathsep.join([str(TEMPLATE / ".uv" / "bin"), os.environ["PATH"]])
ENVIRONMENT = {name: os.environ[name] for name in KEPT if name in os.environ} | {"PATH": PATH}


@pytest.fixture(scope="module")
def workshop() -> Iterator[Path]:
    """A folder outside pytest's own: the service's tests run pytest too, which closes its folder to other users,

    and PostgreSQL, which refuses to run as root, then runs as another user and must reach its programs."""
    with tempfile.TemporaryDirectory(prefix="workshop-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def project(workshop: Path) -> Path:
    return Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(workshop), extra_context=NASTY))


def _make(project: Path, *targets: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *targets],
        cwd=project,
        env={**ENVIRONMENT, "PYTHON": sys.executable, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
        check=False,
    )


def _succeeds(project: Path, *targets: str, **environment: str) -> str:
    done = _make(project, *targets, **environment)
    assert done.returncode == 0, f"make {' '.join(targets)}:\n{done.stdout[-6000:]}"
    return done.stdout


def _copy(project: Path, folder: Path) -> Path:
    """The project as another clone of it, without what can be made again."""
    target = folder / uuid4().hex
    shutil.copytree(project, target, symlinks=True, ignore=shutil.ignore_patterns(".venv", ".uv", "data"))
    return target


def test_1_setup_installs_and_commits_the_pristine_output(project: Path) -> None:
    assert "Next: make demo" in _succeeds(project, "setup")
    first = subprocess.run(["git", "log", "--format=%s"], cwd=project, capture_output=True, text=True, check=True)
    assert first.stdout.splitlines() == ["chore: generate the service from its template"]
    assert "SESSION_SECRET=set-by-make-setup" not in (project / ".env").read_text()
    assert "Next: make demo" in _succeeds(project, "setup"), "setup can be repeated"
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=project, capture_output=True, text=True, check=True)
    assert changed.stdout == ""


def test_2_check_passes_with_the_service_s_own_tests(project: Path) -> None:
    shown = _succeeds(project, "check")
    assert "lint: ok" in shown
    assert "Success: no issues found" in shown
    assert "20 cases" in shown
    [outcome] = [line for line in shown.splitlines() if re.search(r"\d+ passed", line)]
    print(outcome)
    assert "failed" not in outcome
    assert "skipped" not in outcome


def test_3_the_demo_tells_the_whole_story(project: Path) -> None:
    shown = _succeeds(project, "demo", ONCE="1")
    for words in ("parked", "another person must decide", "tickets now: 1", "402 budget.exceeded", "intact: True"):
        assert words in shown
    assert shown.count("✔") == 13


def test_5_without_the_example_everything_else_still_passes(project: Path, workshop: Path) -> None:
    """The recipe of docs/template.md, followed to the letter."""
    copy = _copy(project, workshop)
    for path in ("app/features/assistant", "tests/features/assistant"):
        shutil.rmtree(copy / path)
    (copy / "scripts" / "demo.py").unlink()
    (copy / "app" / "features" / "__init__.py").write_text(
        '"""The product\'s capabilities, one folder each."""\n\n'
        "from app.manifest import Feature\n\nFEATURES: tuple[Feature, ...] = ()\n"
    )
    _succeeds(copy, "setup", "lint", "types")
    _succeeds(copy, "migration", "M=drop tickets")
    _succeeds(copy, "lint", "types")
    shown = _succeeds(copy, "test")
    assert " failed" not in shown


def test_5b_a_second_feature_touches_only_what_belongs_to_the_user(project: Path, workshop: Path) -> None:
    """The README's five steps; the feature is in tests/second_feature."""
    copy = _copy(project, workshop)
    parts = TEMPLATE / "tests" / "second_feature"
    shutil.copytree(parts / "library", copy / "app" / "features" / "library")
    shutil.copytree(parts / "checks", copy / "tests" / "features" / "library")
    features = copy / "app" / "features" / "__init__.py"
    features.write_text(
        features.read_text()
        .replace("from app.manifest", "from app.features.library import FEATURE as LIBRARY\nfrom app.manifest")
        .replace("(ASSISTANT,)", "(ASSISTANT, LIBRARY)")
    )
    roles = copy / "config" / "roles.toml"
    roles.write_text(
        roles.read_text().replace('member = ["runs:read",', 'member = ["loans:read", "loans:write", "runs:read",')
    )
    _succeeds(copy, "setup", "migration", "M=add loans")
    shown = _succeeds(
        copy, "check", "test", "ARGS=tests/features/library tests/db/test_migrations.py tests/api/test_routes.py"
    )
    assert " failed" not in shown
    status = subprocess.run(["git", "status", "--porcelain"], cwd=copy, capture_output=True, text=True, check=True)
    changed = {line[3:] for line in status.stdout.splitlines()}
    users = ("app/features/", "tests/features/", "config/", "migrations/app/", "uv.lock")
    assert changed
    assert {path for path in changed if not path.startswith(users)} == set()


@pytest.mark.parametrize("target", ["setup", "demo"])
def test_6_without_a_package_index_one_message_says_so(tmp_path: Path, target: str) -> None:
    answers = {"project_name": "Desk"}
    fresh = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), extra_context=answers))
    nowhere = "http://127.0.0.1:9/simple"
    cache = str(tmp_path / "cache")
    done = _make(
        fresh, target, UV_DEFAULT_INDEX=nowhere, PIP_INDEX_URL=nowhere, UV_CACHE_DIR=cache, PIP_CACHE_DIR=cache
    )
    assert done.returncode != 0
    assert "Is the package index reachable from here?" in done.stdout
    assert "Traceback" not in done.stdout


def test_7_an_old_or_missing_python_is_named(tmp_path: Path) -> None:
    answers = {"project_name": "Desk"}
    fresh = Path(cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(tmp_path), extra_context=answers))
    done = _make(fresh, "setup", PYTHON="python9.99")
    assert done.returncode != 0
    assert "no python9.99 found; install Python 3.11 or newer" in done.stdout
