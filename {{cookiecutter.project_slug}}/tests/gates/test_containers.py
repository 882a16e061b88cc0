"""Which engine `make test-containers` takes, what it says where there is none, and checks that need no engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from gates import suites
from gates.containers import checks, sources
from gates.containers.engine import Engine, EngineMissing

SAYS = """#!/bin/sh
case "$1" in --version) echo "{version}" ;; info) {info} ;; buildx) {buildx} ;; *) exit 1 ;; esac
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder in which programs are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONTAINER_ENGINE", raising=False)
    return tmp_path


def _engine(folder: Path, name: str, version: str, info: str = "echo works", buildx: str = "exit 1") -> None:
    (folder / name).write_text(SAYS.format(version=version, info=info, buildx=buildx))
    (folder / name).chmod(0o755)


def test_an_engine_that_cannot_build_or_does_not_answer_is_passed_over(programs: Path) -> None:
    _engine(programs, "docker", "Docker version 28.2.2, build 1")  # without the plugin that builds
    with pytest.raises(EngineMissing, match="install docker"):
        Engine.find()
    _engine(programs, "docker", "Docker version 28.2.2, build 1", buildx="echo v0.25")
    assert Engine.find().program == str(programs / "docker")
    _engine(programs, "docker", "Docker version 20.10.24, build 1")
    assert not Engine.find().is_podman
    _engine(programs, "docker", "Docker version 20.10.24, build 1", info="exit 1")  # without its daemon
    _engine(programs, "podman", "podman version 4.3.1")
    found = Engine.find()
    assert (found.program, found.is_podman) == (str(programs / "podman"), True)


def test_a_command_named_docker_may_be_podman_s(programs: Path) -> None:
    _engine(programs, "docker", "podman version 4.3.1")
    assert Engine.find().is_podman


def test_without_an_engine_it_says_so_in_one_sentence_and_keeps_nothing(tmp_path: Path) -> None:
    before = suites.CONTAINERS.exists() and suites.CONTAINERS.read_bytes()
    environment = {**os.environ, "PATH": str(tmp_path), "CONTAINER_ENGINE": ""}
    command = [sys.executable, "-m", "gates.containers"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("test-containers: no container engine works here: install docker")
    assert done.stderr.count("\n") == 1
    assert (suites.CONTAINERS.exists() and suites.CONTAINERS.read_bytes()) == before


@pytest.mark.parametrize(
    ("kind", "mode", "owner", "good"),
    [
        ("file", 0o644, 0, True), ("file", 0o755, 0, True), ("folder", 0o755, 0, True), ("link", 0o777, 0, True),
        ("file", 0o600, 0, False), ("file", 0o664, 0, False), ("folder", 0o700, 0, False), ("folder", 0o777, 0, False),
        ("file", 0o644, 10001, False),
    ],
)  # fmt: skip
def test_modes_of_the_code(kind: str, mode: int, owner: int, good: bool) -> None:
    assert (list(checks.modes({"/app/x": [kind, mode, owner, owner, ""]})) == []) is good


def test_what_differs_or_is_in_one_build_alone_is_named() -> None:
    one: dict[str, list[str | int]] = {"/app/a": ["file", 0o644, 0, 0, "1"], "/app/b": ["file", 0o644, 0, 0, "1"]}
    assert list(checks.reproduced(one, dict(one))) == []
    other: dict[str, list[str | int]] = {"/app/a": ["file", 0o600, 0, 0, "1"]}
    assert len(list(checks.reproduced(one, other))) == 2


def test_a_checkout_under_a_tight_umask_has_its_modes_and_canaries_where_secrets_lie(tmp_path: Path) -> None:
    folder, canaries = sources.prepared(tmp_path / "source", 0o077)
    assert (folder / "Dockerfile").stat().st_mode & 0o777 == 0o600
    assert (folder / "scripts" / "install").stat().st_mode & 0o777 == 0o700
    assert (folder / "app").stat().st_mode & 0o777 == 0o700
    for name, value in canaries.items():
        assert value in (folder / name).read_text()
