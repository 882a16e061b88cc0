"""The rendered project passes the linters of every kind of file it has."""

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


def test_the_workflow_is_valid_and_safe(projects: list[Path]) -> None:
    workflow = ".github/workflows/ci.yaml"
    _passes(["check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow], projects[0])
    _passes(["zizmor", "--offline", "--no-progress", workflow], projects[0])
    _passes(["check-jsonschema", "--builtin-schema", "vendor.gitlab-ci", ".gitlab-ci.yml"], projects[1])


def test_compose_files_follow_the_specification(projects: list[Path]) -> None:
    for file in ("compose.yaml", "deploy/compose/production.yaml"):
        _passes(["check-jsonschema", "--builtin-schema", "vendor.compose-spec", file], projects[0])


def test_the_dockerfile_and_the_shell_scripts_pass(projects: list[Path]) -> None:
    _passes(["hadolint", "--ignore", "DL3008", "Dockerfile"], projects[0])
    scripts = [
        str(path.relative_to(projects[0]))
        for path in (projects[0] / "scripts").iterdir()
        if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert len(scripts) == 5
    _passes(["shellcheck", *scripts], projects[0])
