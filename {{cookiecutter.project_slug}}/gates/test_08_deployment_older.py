"""Gate 8, deployment: code of the release before starts on a schema that newer code has migrated, where it is let."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from app.settings import ROOT
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase, owner_of
from gates.rig.newer_code import MORE, NewerCode, newest
from gates.rig.provider import calls
from gates.rig.world import final

ENDS_WITHIN_S = 240  # on a machine with many times the load; what goes on working is ended then
FIRST, LAST = MORE


def _app(url: str, command: str) -> tuple[int | None, str]:
    """Exit code and words of this code's command on that database; None where it goes on working."""
    environment = {**os.environ, "ENVIRONMENT": "test", "DATABASE_URL": url, "PORT": "0", "OPERATIONS_PORT": "0"}
    if command == "migrate":
        environment["MIGRATION_DATABASE_URL"] = owner_of(url)
    arguments = [sys.executable, "-m", "app", command]
    try:
        done = subprocess.run(
            arguments, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        return None, "it went on working"
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.timeout(900)
@control("DEP-03", cases=11)
def test_older_code_starts_only_where_each_newer_migration_lets_it(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    url, newer, known = new_postgres(), NewerCode(tmp_path / "newer"), newest()

    def refuses(command: str, revision: str, what: str) -> None:
        """It ends with the sentence: which migration, whose, and what to do."""
        code, said = _app(url, command)
        told = f"Migration {revision} " in said and "newer code" in said and "roll forward" in said
        ended = code == 2 and told and "Traceback" not in said
        proof.holds("older-refused", ended, f"{what}: {command} ends with {code}: {said[-300:]}")

    with proof.positive("newer code migrates the database of this code"):
        newer.migrate(url, {FIRST: known, LAST: known})
    ended = {command: _app(url, command) for command in ("migrate", "doctor")}
    for command, (code, said) in ended.items():
        proof.same("older-starts", code, 0, f"{command}: {said[-300:]}")
    with psycopg.connect(url) as connection:
        heads = connection.execute("SELECT version_num FROM alembic_version WHERE version_num LIKE 't%'").fetchall()
    proof.same("older-starts", heads, [(LAST,)], "the head after the older `app migrate`:")
    with new_world(url) as older:
        [who] = older.people(["probe_reader"])
        status = older.service.call(None, "GET", "/readyz").status_code
        proof.same("older-starts", status, 200, "/readyz of the older code:")
        state = older.run(who, calls("probe_lookup", {"query": "a"}), final()).state["state"]
        proof.same("older-starts", state, "succeeded", "a run of the older code:")
    with psycopg.connect(owner_of(url), autocommit=True) as owner:
        owner.execute("DELETE FROM schema_revisions WHERE revision = %s", (LAST,))
    refuses("doctor", LAST, "the newest is not recorded")
    newer.migrate(url, {FIRST: None, LAST: known})
    refuses("doctor", FIRST, "the step before the newest says nothing")
    newer.migrate(url, {FIRST: known, LAST: None})
    for command in ("doctor", "serve", "worker", "migrate"):
        refuses(command, LAST, "the newest says nothing")
