"""A generated service on a machine as people have it: what a scenario makes, runs and looks at."""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from cookiecutter.main import cookiecutter

from tests.conftest import TEMPLATE
from tests.generated import ENVIRONMENT

SECONDS = 3_000  # of a command: it ends what hangs, not what is slow
STEPS_OF_THE_DEMO = 13
CRASHED = re.compile(r"^(Traceback |\w*Error: |.*UnicodeEncodeError)", re.MULTILINE)


class ScenarioError(Exception):
    """A scenario does not hold; the message says which command, and shows its last words."""


class UnavailableError(Exception):
    """What a scenario needs is not on this machine; the message names it."""


@dataclass(frozen=True)
class Service:
    """One generated service in its folder, with the environment and the umask that its commands get."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    umask: int = 0o022

    def run(self, *command: str, status: int | None = 0, environment: Mapping[str, str] | None = None) -> str:
        """What the command printed, on both streams. Raises ScenarioError on another status, or where it crashed."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**ENVIRONMENT, "PYTHON": sys.executable, **self.environment, **(environment or {})},
            umask=self.umask,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            check=False,
        )
        shown = done.stdout.decode(errors="replace")
        wrong = status is not None and done.returncode != status
        if wrong or CRASHED.search(shown):
            raise ScenarioError(f"{' '.join(command)} (exit {done.returncode}):\n{_last_words(shown)}")
        return shown

    def make(self, *arguments: str, **environment: str) -> str:
        return self.run("make", "--no-print-directory", *arguments, environment=environment)

    def python(self, *arguments: str, status: int | None = 0) -> str:
        return self.run(str(self.folder / ".venv" / "bin" / "python"), *arguments, status=status)

    def app(self, *arguments: str, status: int | None = 0) -> str:
        return self.python("-m", "app", *arguments, status=status)

    def set_up(self, *options: str) -> None:
        require("Next: make demo" in self.make(*options, "setup"), "setup does not say what comes next")

    def check(self) -> None:
        """The database is made where it belongs, and the service says that it is ready."""
        self.make("migrate")
        require((self.folder / "data" / "app.db").is_file(), "the database is not below the service")
        require("Ready:" in self.app("doctor"), "app doctor does not say that the service is ready")
        self.make("lint")

    def demo(self, **environment: str) -> None:
        shown = self.make("demo", "ONCE=1", **environment)
        mark = "✔" if "✔" in shown else "?"  # a terminal without it gets another
        require(shown.count(mark) >= STEPS_OF_THE_DEMO, f"the demo did not tell its whole story:\n{shown[-2000:]}")

    def whole(self, *options: str) -> None:
        self.set_up(*options)
        self.check()
        self.demo()


@dataclass(frozen=True)
class Bench:
    """Where scenarios work: everything below one temporary folder."""

    home: Path

    @cached_property
    def plain(self) -> Service:
        """A service that was set up on a machine without any oddity, for scenarios about what is done with one."""
        service = self.generated("plain")
        service.set_up()
        service.check()
        return service

    def generated(self, folder: str, environment: dict[str, str] | None = None, *, umask: int = 0o022) -> Service:
        """A fresh one, not set up, below a folder of that name."""
        target = self.home / folder
        target.mkdir(parents=True)
        made = cookiecutter(str(TEMPLATE), no_input=True, output_dir=str(target))
        return Service(Path(made), environment or {}, umask)

    def inside(self, script: str, environment: Mapping[str, str]) -> str:
        """Run a script of tests/odd/inside with the plain service's Python, its modules and its test harness."""
        path = Path(__file__).parent / "inside" / f"{script}.py"
        added = {"PYTHONPATH": str(self.plain.folder), **environment}
        return replace(self.plain, environment=added).python(str(path))

    @cached_property
    def package_hosts(self) -> str:
        """Where the packages came from, by the plain service's lock: for NO_PROXY."""
        lock = (self.plain.folder / "uv.lock").read_text()
        found = {urlsplit(url).hostname for url in re.findall(r'"(https?://[^"]+)"', lock)}
        return ",".join(sorted(host for host in found if host))


def _last_words(shown: str) -> str:
    """Without what a service logs of each request, which is much."""
    return "\n".join(line for line in shown.splitlines() if not line.startswith('{"method"'))[-4000:]


def require(holds: bool, what: str) -> None:
    if not holds:
        raise ScenarioError(what)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def too_open(folder: Path, names: Iterable[str]) -> list[str]:
    """Those that others may read or write."""
    return [name for name in names if mode(folder / name) & 0o077]
