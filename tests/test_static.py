"""The rendered project passes the linters of every kind of file it has."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import NASTY, Bake

BIN = Path(sys.executable).parent
YAMLLINT = """
extends: default
rules:
  braces: {max-spaces-inside: 1}
  comments: {min-spaces-from-content: 1}
  comments-indentation: disable
  document-start: disable
  line-length: {max: 200}
  truthy: {check-keys: false}
"""


@pytest.fixture(scope="session")
def projects(bake: Bake) -> list[Path]:
    """Two projects that between them have every file the template can make."""
    return [
        bake(**NASTY, deploy_target="compose", ci="github"),
        bake(**NASTY, deploy_target="kubernetes", ci="gitlab"),
    ]


def _passes(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_passes_with_the_project_s_own_rules(projects: list[Path]) -> None:
    for project in projects:
        _passes(["ruff", "check", "--no-cache", "."], project)
        _passes(["ruff", "format", "--no-cache", "--check", "."], project)


def test_yaml_is_well_formed(projects: list[Path]) -> None:
    for project in projects:
        _passes(["yamllint", "--strict", "--config-data", YAMLLINT, "."], project)


def test_the_workflows_are_valid_and_safe(projects: list[Path]) -> None:
    workflows = [str(path.relative_to(projects[0])) for path in (projects[0] / ".github" / "workflows").iterdir()]
    _passes(["check-jsonschema", "--builtin-schema", "vendor.github-workflows", *workflows], projects[0])
    _passes(["zizmor", "--offline", "--no-progress", *workflows], projects[0])
    _passes(["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", ".gitlab-ci.yml"], projects[1])


def test_compose_files_follow_the_specification(projects: list[Path]) -> None:
    for file in ("compose.yaml", "deploy/compose/production.yaml", "deploy/compose/rollout.yaml"):
        _passes(["check-jsonschema", "--builtin-schema", "vendor.compose-spec", file], projects[0])


def test_the_dockerfile_and_the_shell_scripts_pass(projects: list[Path]) -> None:
    _passes(["hadolint", "--ignore", "DL3008", "Dockerfile"], projects[0])
    scripts = [
        str(path.relative_to(projects[0]))
        for path in (projects[0] / "scripts").iterdir()
        if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert len(scripts) == 7
    _passes(["shellcheck", *scripts], projects[0])


@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_whatever_the_umask_the_image_s_code_is_read_by_all_and_written_by_root_alone(
    bake: Bake, tmp_path: Path, umask: int
) -> None:
    """Fault 24: the Dockerfile's own command, on a build context as a builder with that umask has it."""
    context = tmp_path / "context"
    shutil.copytree(bake(), context)
    for path in context.rglob("*"):
        path.chmod((0o777 if path.is_dir() or path.stat().st_mode & 0o100 else 0o666) & ~umask)
    lines = (context / "Dockerfile").read_text().splitlines()
    [setting] = [line for line in lines if "chmod -R" in line]
    assert lines.index(setting) > max(at for at, line in enumerate(lines) if line.startswith("COPY . ."))
    _, found, command = setting.partition("chmod ")
    assert found
    assert command.endswith(" /app")
    subprocess.run(["chmod", *command.split()[:-1], str(context)], check=True)
    for path in context.rglob("*"):
        mode = path.stat().st_mode
        assert not mode & 0o022, path
        assert mode & 0o044 == 0o044, path
        assert not path.is_dir() or mode & 0o011 == 0o011, path
