"""Commands say one clear thing when something is wrong, and undoable things can be tried dry."""

import asyncio
import json
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from app.bootstrap import open_runtime
from app.budgets.caps import Payer
from app.db import sqlite_version
from app.settings import ROOT, load_settings
from gates.rig.databases import NewDatabase


def _app(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        env={**os.environ, "ENVIRONMENT": "test", **environment},
        capture_output=True,
        text=True,
        errors="replace",  # as a terminal of another encoding shows it
        timeout=600,
        check=False,
    )


def _says(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode != 0
    assert "Traceback" not in result.stderr + result.stdout
    shown = " ".join((result.stderr + result.stdout).split())
    for word in words:
        assert word in shown


def test_a_database_that_was_not_migrated_is_named(tmp_path: Path) -> None:
    _says(_app("serve", DATABASE_URL=f"sqlite:///{tmp_path / 'new.db'}"), "app migrate")


def test_a_taken_port_is_named(new_sqlite: NewDatabase) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        _says(_app("serve", DATABASE_URL=new_sqlite(), PORT=port), "PORT", port, "taken")


def test_a_database_that_does_not_answer_is_named() -> None:
    _says(_app("doctor", DATABASE_URL="postgresql://app@127.0.0.1:1/app"), "DATABASE_URL", "does not answer")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()  # a folder cannot be made below a file, whoever we are
    _says(_app("migrate", DATABASE_URL=f"sqlite:///{blocked}/app.db"), "DATABASE_URL", "cannot write")


def test_a_database_of_newer_code_is_named(new_sqlite: NewDatabase) -> None:
    url = new_sqlite()
    with sqlite3.connect(url.removeprefix("sqlite:///")) as database:
        database.execute("UPDATE alembic_version SET version_num = 'ffff' WHERE version_num LIKE 't%'")
    for command in ("doctor", "migrate", "serve"):
        _says(_app(command, DATABASE_URL=url), "newer code")


def test_commands_do_the_same_from_any_folder(tmp_path: Path) -> None:
    _says(_app("tenants", "list", "--no-such-option", DATABASE_URL="sqlite:///data/x.db"), "no-such-option")
    assert load_settings(database_url="sqlite:///data/x.db").database_url == f"sqlite:///{ROOT / 'data' / 'x.db'}"


def test_bad_settings_are_named_all_at_once() -> None:
    result = _app("doctor", ENVIRONMENT="production", DATABASE_URL="sqlite:///x.db")
    _says(result, "SESSION_SECRET", "DATABASE_URL", "MODEL_PROVIDER", "PUBLIC_URL")


@pytest.mark.parametrize(
    "command", ["serve", "worker", "migrate", "doctor", "evals run --live", "tenants list", "usage"]
)
@pytest.mark.parametrize("name", ["openai", "anthropic", "google"])
def test_a_provider_without_its_key_is_named_whatever_the_sdk_could_find(command: str, name: str) -> None:
    theirs = {"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-x", "GOOGLE_API_KEY": "x"}
    result = _app(*command.split(), MODEL_PROVIDER=name, MODEL_API_KEY="", **theirs)
    _says(result, f"MODEL_API_KEY: needed because MODEL_PROVIDER is {name}")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("members", "add", "mia", "--tenant", "acme"), ("--role",)),
        (("members", "add", "mia", "--tenant", "nobody", "--role", "member"), ("no tenant named nobody",)),
        (("keys", "issue", "--tenant", "acme", "--member", "nobody"), ("no member named nobody",)),
        (("keys", "revoke", "nothing"), ("No key has the prefix",)),
        (("budget", "set", "acme", "lots"), ("US dollars",)),
        (("budget", "set", "acme", "3", "--period", "week"), ("day or month",)),
        (("budget", "freeze", "nobody", "--reason", "drill"), ("no tenant named nobody",)),
        (("usage", "--by", "colour"), ("prompt_version",)),
        (("reconcile", "missing.csv", "--month", "2026-11"), ("missing.csv",)),
        (("reconcile", "missing.csv", "--month", "November"), ("2026-11",)),
        (("switch", "on", "everything", "--reason", "drill"), ("Unknown switch",)),
        (("evals", "run", "--feature", "nope"), ("No evaluation set for nope",)),
        (("fly",), ("fly",)),
    ],
)
def test_a_wrong_argument_gets_one_message(acme: str, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    _says(_app(*arguments, DATABASE_URL=acme), *words)


@pytest.fixture(scope="module")
def acme(new_sqlite: NewDatabase) -> str:
    url = new_sqlite()
    assert _app("tenants", "add", "acme", DATABASE_URL=url).returncode == 0
    return url


def test_what_is_spent_is_shown_by_whatever_one_asks(acme: str) -> None:
    _does("Nothing has been spent", "usage", "--by", "day", "--by", "tenant", acme=acme)
    _does("Would freeze acme", "budget", "freeze", "acme", "--reason", "drill", "--dry-run", acme=acme)
    _does("Froze acme", "budget", "freeze", "acme", "--reason", "drill", acme=acme)
    _does("a day", "budget", "set", "acme", "3", "--period", "day", acme=acme)
    _does("Thawed acme", "budget", "thaw", "acme", "--reason", "drill", acme=acme)
    _does("Added $2.50 to acme", "budget", "top-up", "acme", "2.5", "--reason", "drill", acme=acme)
    _does("22.500000", "budget", "show", acme=acme)


def test_commands_say_what_of_the_tenants_own_still_holds(acme: str) -> None:
    async def narrow() -> None:
        async with open_runtime(load_settings(database_url=acme, environment="test"), durable=False) as runtime:
            payer = Payer(await runtime.directory.tenant_id("acme"), "")
            await runtime.ledger.set_cap(payer, "tenant", 1_000_000, actor="admin", layer="tenant")
            await runtime.ledger.freeze(payer, "tenant", frozen=True, actor="admin", reason="drill", layer="tenant")
            await runtime.members.add(payer.tenant_id, "mia", ["member"], "test")

    asyncio.run(narrow())
    _does("In force is $1.00, a limit of the tenant's administrators", "budget", "set", "acme", "15", acme=acme)
    _does("In force is $1.00", "budget", "top-up", "acme", "5", "--reason", "drill", acme=acme)
    _does("Still frozen by the tenant's administrators", "budget", "thaw", "acme", "--reason", "drill", acme=acme)
    shown = json.loads(_app("budget", "show", "--json", DATABASE_URL=acme).stdout)
    [month] = [row for row in shown if row["scope"] == "tenant" and row["window"].count("-") == 1]
    found = [month[name] for name in ("name", "limit_usd", "tenant_usd", "limited_by", "frozen", "frozen_by")]
    assert found == ["acme", "1.000000", "1.000000", "tenant", True, ["tenant"]]
    _does("Has let in mia of acme", "members", "enable", "mia", "--tenant", "acme", acme=acme)


def _does(words: str, *arguments: str, acme: str) -> None:
    done = _app(*arguments, DATABASE_URL=acme)
    assert done.returncode == 0, done.stderr
    assert words in done.stdout


def test_an_unknown_role_is_refused_with_the_known_ones(acme: str) -> None:
    result = _app("members", "add", "mia", "--tenant", "acme", "--role", "king", DATABASE_URL=acme)
    _says(result, "Unknown role", "approver", "viewer")


def test_a_dry_run_changes_nothing(acme: str) -> None:
    before = _app("tenants", "list", "--json", DATABASE_URL=acme).stdout
    assert _app("tenants", "add", "other", "--dry-run", DATABASE_URL=acme).returncode == 0
    assert _app("tenants", "list", "--json", DATABASE_URL=acme).stdout == before
    assert [row["name"] for row in json.loads(before)] == ["acme"]


def test_an_operator_can_stop_and_verify(acme: str) -> None:
    assert _app("switch", "on", "runs", "--reason", "drill", DATABASE_URL=acme).returncode == 0
    switches = json.loads(_app("switch", "list", "--json", DATABASE_URL=acme).stdout)
    assert [switch["name"] for switch in switches] == ["runs"]
    assert _app("switch", "off", "runs", "--reason", "over", DATABASE_URL=acme).returncode == 0
    verified = _app("audit", "verify", "--json", DATABASE_URL=acme)
    assert verified.returncode == 0
    assert {(row["intact"], row["broken_at"]) for row in json.loads(verified.stdout)} == {(True, None)}


@pytest.fixture
def old_sqlite(tmp_path: Path) -> dict[str, str]:
    """The environment of Python 3.12 with SQLite 3.41.2, as far as the service can tell."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sqlite3, app.db.sqlite_version as checked\n"
        "sqlite3.sqlite_version_info, sqlite3.sqlite_version = (3, 41, 2), '3.41.2'\n"
        "checked.sys = type('Python', (), {'version_info': (3, 12)})\n"
    )
    place = os.pathsep.join([str(tmp_path), str(ROOT)])
    return {"PYTHONPATH": place, "DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"}


@pytest.mark.parametrize("command", [("serve",), ("worker",), ("doctor",), ("migrate",), ("tenants", "list")])
def test_an_sqlite_that_is_too_old_is_named(
    tmp_path: Path, old_sqlite: dict[str, str], command: tuple[str, ...]
) -> None:
    """fault 7: before anything is made."""
    _says(_app(*command, **old_sqlite), "DATABASE_URL", "SQLite 3.42.0 or newer", "3.41.2", "Python 3.11")
    assert not (tmp_path / "new.db").exists()


@pytest.mark.parametrize(("database", "status"), [({}, 1), ({"DATABASE_URL": "postgresql://app@db/app"}, 0)])
def test_setup_names_an_sqlite_that_is_too_old_for_the_database_in_use(
    old_sqlite: dict[str, str], database: dict[str, str], status: int
) -> None:
    """fault 7"""
    environment = {**os.environ, "ENVIRONMENT": "test", **old_sqlite, **database}
    command = [sys.executable, "-m", "scripts.check_sqlite"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (status, status), done.stderr
    assert done.stderr.startswith("setup: DATABASE_URL: SQLite 3.42.0 or newer is needed"[: 60 * status])


@pytest.mark.parametrize(
    ("python", "sqlite", "enough"),
    [
        ((3, 11), (3, 36, 9), False), ((3, 11), (3, 37, 0), True), ((3, 11), (3, 41, 2), True),
        ((3, 12), (3, 41, 2), False), ((3, 14), (3, 40, 1), False), ((3, 14), (3, 42, 0), True),
        ((4, 0), (3, 36, 0), False),
    ],
)  # fmt: skip
def test_which_sqlite_is_enough_depends_on_the_python(
    monkeypatch: pytest.MonkeyPatch, python: tuple[int, int], sqlite: tuple[int, int, int], enough: bool
) -> None:
    """fault 7"""
    monkeypatch.setattr(sqlite_version, "sys", SimpleNamespace(version_info=python))
    monkeypatch.setattr(sqlite3, "sqlite_version_info", sqlite)
    with nullcontext() if enough else pytest.raises(sqlite_version.SqliteTooOld):
        sqlite_version.require_sqlite()


LATIN_1 = {"LC_ALL": "C", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_survive_a_terminal_that_cannot_show_them(new_sqlite: NewDatabase) -> None:
    """Shown with letters missing; given, stored and told as JSON they are whole."""
    settings = {**LATIN_1, "DATABASE_URL": new_sqlite()}
    assert _app("tenants", "add", "Zoë ☃", **settings).returncode == 0
    shown = _app("tenants", "list", **settings)
    assert (shown.returncode, "Zo" in shown.stdout) == (0, True), shown.stderr
    [row] = json.loads(_app("tenants", "list", "--json", **settings).stdout)
    assert row["name"] == "Zoë ☃"


def test_an_argument_that_is_no_text_is_named() -> None:
    _says(_app("tenants", "add", "\udcff", **LATIN_1), "An argument is not text")
