"""The oddities, one function each: it returns what ran, and raises ScenarioError or UnavailableError."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.generated import ENVIRONMENT
from tests.odd import pooler, sqlite_libraries
from tests.odd.bench import Bench, Service, UnavailableError, mode, require, too_open

Scenario = Callable[[Bench], str]
SCENARIOS: dict[str, Scenario] = {}
WHOLE = "setup, migrate, doctor, lint, demo"
DEAD = "127.0.0.1:9"


def scenario(name: str) -> Callable[[Scenario], Scenario]:
    def add(function: Scenario) -> Scenario:
        SCENARIOS[name] = function
        return function

    return add


@scenario("folder")
def folder_with_everything_in_its_name(bench: Bench) -> str:
    """faults 14, 15: spaces, unicode, and what is syntax in a path list and in a URL."""
    bench.generated("a b:c?d%20e#f ünï ☃ 中").whole()
    return WHOLE


def _whole_under(umask: int) -> Scenario:
    def run(bench: Bench) -> str:
        service = bench.generated(f"umask-{umask:03o}", umask=umask)
        service.whole()
        open_to_others = too_open(service.folder, [".env"])
        require(not open_to_others, f"others may read {open_to_others}: a secret is in it")
        require(
            bool(mode(service.folder / "scripts" / "install") & 0o100), "scripts/install is not executable by its owner"
        )
        return f"{WHOLE}, modes"

    return run


scenario("umask-000")(_whole_under(0o000))
scenario("umask-077")(_whole_under(0o077))


def _whole_behind(scheme: str, *names: str) -> Scenario:
    def run(bench: Bench) -> str:
        proxies = dict.fromkeys(names, f"{scheme}://{DEAD}")
        hosts = bench.package_hosts
        service = bench.generated(f"proxies-{scheme}", {**proxies, "NO_PROXY": hosts, "no_proxy": hosts})
        service.set_up()
        service = replace(service, environment=proxies)  # now nothing at all is exempt
        service.check()
        service.demo()
        bench.inside("behind_proxies", proxies)
        return f"{WHOLE}, a provider on loopback"

    return run


scenario("proxies-http")(_whole_behind("http", "HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"))
scenario("proxies-socks")(_whole_behind("socks5", "ALL_PROXY", "all_proxy"))


@scenario("git")
def git_with_signing_hooks_and_excludes_of_its_own(bench: Bench) -> str:
    """faults 17, 18"""
    service = bench.generated("git", {"GIT_CONFIG_GLOBAL": str(bench.home / "gitconfig")})
    hooks = bench.home / "hooks"
    hooks.mkdir()
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    (bench.home / "excludes").write_text(".env*\nconfig\n*.toml\ndocs/\n")
    (bench.home / "attributes").write_text("* filter=broken\n")
    (bench.home / "gitconfig").write_text(
        f'[filter "broken"]\nclean = false\nrequired = true\n[core]\nattributesFile = "{bench.home / "attributes"}"\n'
        f'[commit]\ngpgsign = true\n[gpg]\nprogram = false\n[core]\nhooksPath = "{hooks}"\n'
        f'excludesFile = "{bench.home / "excludes"}"\nautocrlf = true\n'
    )
    service.whole()
    _committed_whole(service, bench.plain)
    return f"{WHOLE}, the first revision"


@scenario("git-dir")
def git_dir_of_another_repository(bench: Bench) -> str:
    other = bench.home / "other.git"
    subprocess.run(["git", "init", "--quiet", "--bare", other], check=True, env=ENVIRONMENT)
    names = {"GIT_DIR": str(other), "GIT_WORK_TREE": str(bench.home), "GIT_INDEX_FILE": str(other / "index")}
    service = bench.generated("git-dir", names)
    service.whole()
    _committed_whole(replace(service, environment={}), bench.plain)
    objects = [path for path in (other / "objects").rglob("*") if path.is_file()]
    require(not objects, "something was committed to the repository of GIT_DIR")
    return f"{WHOLE}, the first revision"


def _committed_whole(service: Service, plain: Service) -> None:
    [subject] = service.run("git", "log", "--format=%s").splitlines()
    require(subject == "chore: generate the service from its template", f"the first revision is {subject!r}")
    tracked, usual = (each.run("git", "ls-files").splitlines() for each in (service, plain))
    require(tracked == usual, f"too much or too little in the first revision: {sorted(set(usual) ^ set(tracked))}")


@scenario("parallel-make")
def setup_with_parallel_make(bench: Bench) -> str:
    """fault 19"""
    bench.generated("parallel").whole("-j4")
    return f"-j4 for setup, then {WHOLE}"


def _whole_with_python(version: str) -> Scenario:
    def run(bench: Bench) -> str:
        found = _python(version)
        if found is None:
            raise UnavailableError(f"no Python {version} on the PATH or known to uv")
        if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
            bench.plain.demo()
            return WHOLE
        service = bench.generated(f"python-{version}", {"PYTHON": found})
        if not _has_old_sqlite(found, version):
            service.whole()
            return WHOLE
        shown = service.run("make", "setup", status=2)
        require("SQLite 3.42.0 or newer is needed with Python" in shown, f"an old SQLite is not named:\n{shown}")
        library = sqlite_libraries.built("newest", bench.home / f"sqlite-of-python-{version}")
        replace(service, environment={"PYTHON": found, "LD_LIBRARY_PATH": str(library)}).whole()
        return f"its old SQLite is refused in one sentence; with the newest: {WHOLE}"

    return run


def _has_old_sqlite(python: str, version: str) -> bool:
    """Whether it is older than what the service needs with this Python; see app/db/sqlite_version.py."""
    shown = subprocess.run(
        [python, "-c", "import sqlite3; print(sqlite3.sqlite_version)"], capture_output=True, text=True, check=True
    ).stdout
    numbers = [tuple(map(int, each.strip().split("."))) for each in (version, shown)]
    return numbers[0] >= (3, 12) and numbers[1] < (3, 42)


def _python(version: str) -> str | None:
    """One that runs, of those that uv knows, that are on the PATH, and that pyenv keeps aside."""
    command = ["uv", "python", "find", "--no-project", "--no-python-downloads", version]
    known = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob(f"versions/{version}.*/bin/python")
    found = [known.stdout.strip(), shutil.which(f"python{version}", path=ENVIRONMENT["PATH"]), *map(str, sorted(kept))]
    return next((path for path in found if path and _runs(path)), None)


def _runs(python: str) -> bool:
    # A shim of pyenv is on the PATH for every version that it keeps, and runs only the chosen one.
    return subprocess.run([python, "-c", ""], env=ENVIRONMENT, capture_output=True, check=False).returncode == 0


for _version in ("3.11", "3.12", "3.13", "3.14"):
    scenario(f"python-{_version}")(_whole_with_python(_version))


def _with_sqlite(release: str) -> Scenario:
    def run(bench: Bench) -> str:
        library = sqlite_libraries.built(release, bench.home / f"sqlite-{release}")
        service = replace(bench.plain, environment={"LD_LIBRARY_PATH": str(library)})
        version = service.python("-c", "import sqlite3; print(sqlite3.sqlite_version)").strip()
        shutil.rmtree(service.folder / "data", ignore_errors=True)
        if tuple(map(int, version.split("."))) < (3, 37):
            shown = service.app("migrate", status=2)
            require("SQLite 3.37.0 or newer is needed" in shown, f"an old SQLite is not named:\n{shown}")
            return f"SQLite {version} is refused in one sentence"
        service.check()
        service.demo()
        return f"SQLite {version}: migrate, doctor, demo"

    return run


for _release in sqlite_libraries.RELEASES:
    scenario(f"sqlite-{_release}")(_with_sqlite(_release))

COMMANDS = (
    ["--help"], ["doctor"], ["tenants", "add", "Zoë 中"], ["tenants", "list"],
    ["members", "add", "Mia Ł ☃", "--tenant", "Zoë 中", "--role", "member"], ["members", "list", "--tenant", "Zoë 中"],
    ["keys", "issue", "--tenant", "Zoë 中", "--member", "Mia Ł ☃"], ["budget", "show", "Zoë 中"], ["usage"],
    ["switch", "list"], ["audit", "verify"], ["retention", "show"],
)  # fmt: skip


@scenario("latin-1")
def terminal_without_unicode(bench: Bench) -> str:
    """Every command's output may lose letters and must not end in a traceback."""
    locales = {"LANG": "C", "LC_ALL": "C", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    service = replace(bench.plain, environment=locales)
    service.make("migrate")
    for command in COMMANDS:
        service.app(*command, status=None)
    service.make("help")
    service.make("lint")
    service.demo()
    service.python("-m", "gates", "score", status=None)
    return f"{len(COMMANDS)} commands, help, lint, demo, score"


@scenario("ipv6")
def nothing_but_ipv6(bench: Bench) -> str:
    """fault 23: by setting, then on a machine whose loopback has no other address."""
    for host in ("::1", "::"):
        bench.plain.demo(HOST=host, OPERATIONS_HOST=host)
    alone = ["unshare", "--net", "--", "sh", "-c"]
    only = "ip link set lo up && ip address del 127.0.0.1/8 dev lo && HOST=::1 OPERATIONS_HOST=::1 make demo ONCE=1"
    if subprocess.run([*alone, "ip link set lo up"], capture_output=True, check=False).returncode:
        raise UnavailableError("ran with HOST=::1 and HOST=::, not without IPv4: no network namespace can be made here")
    bench.plain.run(*alone, only)
    return "demo on ::1, on ::, and where there is no IPv4"


@scenario("pgbouncer")
def behind_pgbouncer(bench: Bench) -> str:
    """fault 11: pool_mode=transaction, a real one before a real PostgreSQL."""
    program, libraries = pooler.found(bench.home / "pgbouncer")
    shown = bench.inside("behind_pgbouncer", {"PGBOUNCER": program, "PGBOUNCER_LIBRARIES": libraries})
    return shown.strip().splitlines()[-1]


@scenario("read-only")
def postgresql_that_turned_read_only(bench: Bench) -> str:
    """fault 10: the proof and the tests of it, with nothing else running."""
    proof = ["-m", "pytest", "-p", "gates.plugin", "gates", "-q", "--control=ERR-12", "-k", "takes_no_writes"]
    shown = bench.plain.python(*proof)
    require(" passed" in shown, shown[-2000:])
    shown = bench.plain.python("-m", "pytest", "-q", "tests/db/test_read_only_server.py")
    require(" passed" in shown, shown[-2000:])
    return "a failover under requests, and under each way to the database"
