"""A container engine's command line: docker or podman, whichever works here, or the one that CONTAINER_ENGINE names."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUILD_SECONDS = 1_800
SECONDS = 300
PLUGIN_SINCE = 23  # release notes of Docker Engine 23.0
NONE = (
    "no container engine works here: install docker (with buildx, its daemon running) or podman, or name one "
    "(CONTAINER_ENGINE=/usr/bin/podman)"
)


class EngineMissing(Exception):
    """Nothing here can build and run an image; the message says what would."""


class EngineFailed(Exception):
    """The engine could not do what it was asked; the message has its last words."""


@dataclass(frozen=True)
class Engine:
    program: str
    build_options: tuple[str, ...] = ()
    is_podman: bool = False  # by what it says: a command named docker may be podman's

    @classmethod
    def find(cls, build_options: Sequence[str] = ()) -> "Engine":
        """Raises EngineMissing."""
        named = os.environ.get("CONTAINER_ENGINE")
        for name in [named] if named else ["docker", "podman"]:
            program = shutil.which(name)
            if program and _works(program):
                return cls(program, tuple(build_options), is_podman="podman" in _said(program, "--version").lower())
        raise EngineMissing(f"{named} does not work here" if named else NONE)

    def run(self, *arguments: str, seconds: int = SECONDS) -> "subprocess.CompletedProcess[str]":
        environment = {**os.environ, "DOCKER_BUILDKIT": "1"}  # the cache mounts of the Dockerfile need it
        return subprocess.run(
            [self.program, *arguments], capture_output=True, text=True, timeout=seconds, env=environment, check=False
        )

    def told(self, *arguments: str, seconds: int = SECONDS) -> str:
        """What a command prints. Raises EngineFailed where it fails."""
        done = self.run(*arguments, seconds=seconds)
        if done.returncode:
            last = (done.stderr or done.stdout).strip()[-600:]
            raise EngineFailed(f"{Path(self.program).name} {arguments[0]}: {last}")
        return done.stdout

    def build(self, context: Path, tag: str, *options: str) -> None:
        """Raises EngineFailed."""
        form = ("--format", "docker") if self.is_podman else ()  # the other format has no health check
        self.told("build", *form, *self.build_options, *options, "-t", tag, str(context), seconds=BUILD_SECONDS)

    def inspected(self, what: str) -> dict[str, Any]:
        """Of an image or a container."""
        [found] = json.loads(self.told("inspect", what))
        document: dict[str, Any] = found
        return document

    def python(self, image: str, code: str, *arguments: str) -> str:
        """What a program prints in a container of its own: as root, without a network."""
        return self.told("run", "--rm", "--network=none", "--user=0:0", image, "python", "-c", code, *arguments)

    @contextmanager
    def running(self, image: str, *options: str, command: Sequence[str] = ()) -> Iterator[str]:
        """The id of a container, until the block ends."""
        name = self.told("run", "--detach", *options, image, *command).strip().splitlines()[-1]
        try:
            yield name
        finally:
            self.run("rm", "--force", name)


def _works(program: str) -> bool:
    """Whether it answers, and can build: BuildKit is a plugin of docker's from version 23 on, and built in before."""
    if not _said(program, "info"):
        return False
    docker = re.match(r"Docker version (\d+)", _said(program, "--version"))
    return docker is None or int(docker[1]) < PLUGIN_SINCE or bool(_said(program, "buildx", "version"))


def _said(program: str, *arguments: str) -> str:
    """What it prints; empty where it fails."""
    try:
        done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
