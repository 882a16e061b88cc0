"""A generated project can be compared with its template and updated from it, by cruft."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NASTY
from tests.test_hooks import committed_copy

BIN = Path(sys.executable).parent
ENVIRONMENT = {
    **os.environ,
    "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    "GIT_AUTHOR_NAME": "t",
    "GIT_AUTHOR_EMAIL": "t@example.com",
    "GIT_COMMITTER_NAME": "t",
    "GIT_COMMITTER_EMAIL": "t@example.com",
}


def _run(*command: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done


def _commit(folder: Path, message: str) -> None:
    _run("git", "add", "--all", cwd=folder)
    _run("git", "commit", "--quiet", "--message", message, cwd=folder)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return committed_copy(tmp_path)


def _by_cookiecutter(template: Path, output: Path) -> Path:
    answers = [f"{name}={value}" for name, value in NASTY.items()]
    _run("cookiecutter", "--no-input", "--output-dir", str(output), str(template), *answers, cwd=template.parent)
    return output / "o-neil-q-co"


def _by_cruft(template: Path, output: Path) -> Path:
    output.mkdir()
    extra = json.dumps(NASTY)
    _run(
        "cruft",
        "create",
        str(template),
        "--no-input",
        "--output-dir",
        str(output),
        "--extra-context",
        extra,
        cwd=output,
    )
    return output / "o-neil-q-co"


def _content(project: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(project)): path.read_bytes()
        for path in project.rglob("*")
        if path.is_file() and ".git" not in path.relative_to(project).parts and path.name != ".cruft.json"
    }


def test_cookiecutter_and_cruft_make_the_same_project(template: Path, tmp_path: Path) -> None:
    plain, crufted = _by_cookiecutter(template, tmp_path / "plain"), _by_cruft(template, tmp_path / "crufted")
    assert _content(plain) == _content(crufted)
    first, second = (json.loads((project / ".cruft.json").read_text()) for project in (plain, crufted))
    assert {k: first[k] for k in ("template", "commit", "checkout")} == {
        k: second[k] for k in ("template", "commit", "checkout")
    }


def test_a_fresh_project_does_not_differ_from_its_template(template: Path, tmp_path: Path) -> None:
    project = _by_cookiecutter(template, tmp_path / "out")
    _run("git", "init", "--quiet", cwd=project)
    _commit(project, "pristine")
    _run("cruft", "check", cwd=project)
    assert _run("cruft", "diff", "--exit-code", cwd=project).stdout == ""


def test_an_update_keeps_every_line_of_the_user_and_brings_the_template_s(template: Path, tmp_path: Path) -> None:
    project = _by_cookiecutter(template, tmp_path / "out")
    _run("git", "init", "--quiet", cwd=project)
    _commit(project, "pristine")
    edits = _edit_as_a_user(project)
    _commit(project, "our work")
    source = template / "{{cookiecutter.project_slug}}"
    _append(source / "app" / "policy" / "taint.py", "# a newer template\n")
    _append(source / "config" / "roles.toml", "# a newer seed\n")
    (source / "docs" / "runbooks" / "RB-99-new.md").write_text("# RB-99 New\n")
    _replace(source / "pyproject.toml", '  "alembic>=1.20",\n', '  "alembic>=1.20.1",\n')
    _commit(template, "v2")

    done = _run(str(project / "scripts" / "update"), cwd=project, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a newer template" in (project / "app" / "policy" / "taint.py").read_text()
    assert (project / "docs" / "runbooks" / "RB-99-new.md").exists()
    assert '"alembic>=1.20.1"' in (project / "pyproject.toml").read_text()
    assert "a newer seed" not in (project / "config" / "roles.toml").read_text(), "config belongs to the user"
    for path, line in edits:
        assert line in (project / path).read_text(), f"{path}: the update lost a line of the user"


def _edit_as_a_user(project: Path) -> list[tuple[str, str]]:
    """What a team does in its first weeks; returns (file, line) pairs that an update must keep."""
    _append(project / "README.md", "Our own words.\n")
    _append(project / "config" / "roles.toml", 'auditor = ["audit:read"]\n')
    _append(project / ".gitignore", "ours/\n")
    _append(project / "Makefile.local", "ours:\n\t@echo ours\n")
    mark = "  # --- your dependencies: `uv add` appends below ---\n"
    _replace(project / "pyproject.toml", mark, f'{mark}  "boto3>=1.40",\n')
    feature = project / "app" / "features" / "ours"
    feature.mkdir()
    (feature / "__init__.py").write_text('"""Ours."""\n')
    (project / "compose.override.yaml").write_text("services: {}\n")
    return [
        ("README.md", "Our own words."),
        ("config/roles.toml", 'auditor = ["audit:read"]'),
        (".gitignore", "ours/"),
        ("Makefile.local", "@echo ours"),
        ("pyproject.toml", '"boto3>=1.40",'),
        ("app/features/ours/__init__.py", "Ours."),
        ("compose.override.yaml", "services: {}"),
    ]


def test_a_conflict_is_said_loudly(template: Path, tmp_path: Path) -> None:
    project = _by_cookiecutter(template, tmp_path / "out")
    _run("git", "init", "--quiet", cwd=project)
    _commit(project, "pristine")
    line = "class AllTenants:\n"
    _replace(project / "app" / "db" / "tenancy.py", line, "class EveryTenant:\n")
    _commit(project, "an edit where extending was meant")
    source = template / "{{cookiecutter.project_slug}}" / "app" / "db" / "tenancy.py"
    _replace(source, line, "class WholePlatform:\n")
    _commit(template, "v2")
    done = _run(str(project / "scripts" / "update"), cwd=project, check=False)
    assert done.returncode != 0
    assert "tenancy.py" in done.stdout + done.stderr


def test_an_update_over_uncommitted_work_is_refused(template: Path, tmp_path: Path) -> None:
    project = _by_cookiecutter(template, tmp_path / "out")
    _run("git", "init", "--quiet", cwd=project)
    _commit(project, "pristine")
    _append(project / "README.md", "unsaved\n")
    done = _run(str(project / "scripts" / "update"), cwd=project, check=False)
    assert done.returncode != 0
    assert "uncommitted" in done.stderr


def _append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
