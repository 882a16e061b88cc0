"""Gate 8, deployment: what was written before a loss comes back, is checked; the service cannot touch its backups."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.restore_drill import ROLE, Restored, damage, drill
from gates.rig.provider import calls
from gates.rig.world import World, final

# What somebody with the service's database password would try against backups.
OF_BACKUPS = {
    "read a base backup": "SELECT pg_backup_start('mine')",
    "stop the archive": "ALTER SYSTEM SET archive_command = '/bin/true'",
    "read files of the server": "SELECT pg_read_file('postgresql.auto.conf')",
    "list the archive": "SELECT pg_ls_dir('pg_wal')",
    "delete files by a program": "COPY (SELECT 1) TO PROGRAM 'rm -f archive'",
    "overwrite a file": "COPY (SELECT 1) TO '/tmp/of-a-backup'",
    "become the owner": "SET ROLE postgres",
    "replicate": f"ALTER ROLE {ROLE} REPLICATION",
}


@pytest.mark.timeout(900)
@control("DEP-13", cases=21)
def test_a_lost_database_is_restored_to_the_moment_before(proof: Proof) -> None:
    with drill() as restored:
        report = restored.report
        with proof.positive("the restored database is one that the service starts on"):
            assert report.environment == "test"
        proof.same("restored", report.runs_restored, report.expected, "runs after the restore:")
        proof.same("restored", (report.runs_before, report.runs_after), (2, 1), "written before and after the moment:")
        for check, (looked_at, broken) in report.checks.items():
            proof.holds("consistent", looked_at > 0, f"{check}: nothing was looked at")
            proof.same("consistent", broken, [], check)
        proof.holds("measured", report.rpo_s > 0, report.rpo_s)
        proof.holds("measured", report.rto_s > 0, report.rto_s)
        _cannot_touch_backups(proof, restored)
        for check, statement in damage().items():
            proof.holds("sees-damage", restored.broken_after(statement)[check], f"{check}: it is not noticed")


def _cannot_touch_backups(proof: Proof, restored: Restored) -> None:
    url = restored.settings.database_url
    assert urlsplit(url).username == ROLE
    with psycopg.connect(url, autocommit=True) as connection:
        for what, statement in OF_BACKUPS.items():
            try:
                connection.execute(statement.encode())
                told = "done"
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedObject) as error:
                told = type(error).__name__
            proof.same("cannot-touch", told, "InsufficientPrivilege", what)


@pytest.mark.timeout(600)
@control("DEP-13", cases=8)
def test_an_sqlite_database_is_copied_while_it_is_written_to(proof: Proof, new_world: NewWorld, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    with new_world() as world:
        [who] = world.people(["probe_reader"])
        ran = world.run(who, calls("probe_lookup", {"query": "a"}), final())
        assert ran.state["state"] == "succeeded"
        done = world.command("database", "backup", str(copy))
        with proof.positive("the copy is made while the service has the database open"):
            assert done.returncode == 0, done.stderr
        proof.same("restored", _runs(copy), [(ran.id,)], "runs in the copy:")
        proof.same("restored", [each.name for each in tmp_path.iterdir()], ["copy.db"], "files:")
        before = copy.read_bytes()
        again = world.command("database", "backup", str(copy))
        proof.same("overwrites-nothing", (again.returncode, copy.read_bytes() == before), (2, True), again.stderr)
        proof.holds("overwrites-nothing", "exists" in again.stderr, again.stderr)
        proof.same("consistent", _checked(world, copy), 0)
        with closing(sqlite3.connect(copy)) as database:
            database.execute("UPDATE model_calls SET cost_micro = cost_micro + 1")
            database.commit()
        proof.same("sees-damage", _checked(world, copy), 1, "a ledger that differs from its calls:")
        with closing(sqlite3.connect(copy)) as database:
            database.execute("UPDATE model_calls SET cost_micro = cost_micro - 1")
            database.execute("UPDATE audit_events SET actor = 'somebody else' WHERE sequence = 1")
            database.commit()
        proof.same("sees-damage", _checked(world, copy), 1, "a record that was rewritten:")
        proof.same("consistent", _checked(world, Path(world.service.database_url.removeprefix("sqlite:///"))), 0)


def _runs(file: Path) -> list[tuple[str]]:
    with closing(sqlite3.connect(file)) as database:
        return database.execute("SELECT id FROM runs").fetchall()


def _checked(world: World, file: Path) -> int:
    return world.command("database", "check", DATABASE_URL=f"sqlite:///{file}").returncode
