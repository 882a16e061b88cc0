"""`/version` and `app version`: what runs is what was built, with what it was given."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.entrypoints.release import Release
from app.settings import ROOT, load_settings
from gates.rig.databases import NewDatabase, owner_of
from gates.rig.service import Service, running
from gates.rig.workers import workers

COMMIT, IMAGE = "0123456789abcdef0123456789abcdef01234567", f"sha256:{'ab' * 32}"
BUILT = {"SOURCE_COMMIT": COMMIT, "IMAGE_DIGEST": IMAGE}


def _version(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app", "version", *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def _told(**environment: str) -> Any:
    return json.loads(_version("--json", **environment).stdout)


def test_web_worker_and_command_line_tell_the_same(new_postgres: NewDatabase, tmp_path: Path) -> None:
    with (
        running(new_postgres(), tmp_path, EMBEDDED_WORKER="false", **BUILT) as service,
        workers(service) as started,
    ):
        worker = started.start()
        told = service.operations("/version").json()
        assert (told["commit"], told["image_digest"]) == (COMMIT, IMAGE)
        assert told["schema"]["code"] == told["schema"]["database"] != []
        assert worker.operations("/version").json() == told
        assert _told(DATABASE_URL=service.database_url, ENVIRONMENT="test", **BUILT) == told
        _database_is_ahead(service)


def _database_is_ahead(service: Service) -> None:
    """While a release rolls out, the version before it serves a schema that it does not know."""
    before = service.operations("/version").json()["schema"]
    with psycopg.connect(owner_of(service.database_url)) as connection:
        connection.execute("INSERT INTO alembic_version VALUES ('z9999')")
    after = service.operations("/version").json()["schema"]
    assert after == {"code": before["code"], "database": [*before["database"], "z9999"]}


def test_without_a_database_it_is_null_and_none_is_made(tmp_path: Path) -> None:
    told = _told(DATABASE_URL=f"sqlite:///{tmp_path}/none.db", SOURCE_COMMIT="", IMAGE_DIGEST="")
    assert told["schema"]["database"] is None
    assert (told["commit"], told["image_digest"]) == (None, None)
    assert list(tmp_path.iterdir()) == []
    assert _told(DATABASE_URL="postgresql://nobody@127.0.0.1:9/none")["schema"]["database"] is None


@pytest.mark.parametrize(
    ("file", "before", "after", "changed"),
    [
        ("policy.toml", 'decision = "ask"', 'decision = "deny"', {"policy"}),
        ("models.toml", 'input_usd_per_mtok = "0.25"', 'input_usd_per_mtok = "0.26"', {"models", "prices"}),
        ("models.toml", '"gpt-5-nano*" = "small"', '"gpt-5-nano*" = "large"', {"models"}),
    ],
)
def test_a_hash_follows_its_file_and_no_other_does(
    tmp_path: Path, file: str, before: str, after: str, changed: set[str]
) -> None:
    config = Path(shutil.copytree(ROOT / "config", tmp_path / "config"))
    first = Release.read(load_settings(config_dir=config)).document(None)
    text = (config / file).read_text()
    assert before in text
    (config / file).write_text(text.replace(before, after))
    second = Release.read(load_settings(config_dir=config)).document(None)
    assert {name for name in first if first[name] != second[name]} == changed


def test_prices_of_the_library_count_as_the_file_s(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"model_provider": "openai", "model_api_key": "sk-test"}
    first = Release.read(load_settings(**settings)).prices
    config = Path(shutil.copytree(ROOT / "config", tmp_path / "config"))
    text = (config / "models.toml").read_text().replace('model = "gpt-5-mini"', 'model = "gpt-4.1-mini"')
    (config / "models.toml").write_text(text)
    assert Release.read(load_settings(**settings, config_dir=config)).prices != first


@pytest.mark.parametrize(("name", "value"), [("SOURCE_COMMIT", "main"), ("IMAGE_DIGEST", "repository/image:latest")])
def test_a_label_that_names_nothing_exact_is_refused(name: str, value: str) -> None:
    done = _version(**{name: value})
    assert done.returncode == 2
    assert done.stderr.startswith("The configuration cannot be used:")
    assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_people_are_shown_every_line() -> None:
    done = _version(**BUILT)
    for part in ("commit", COMMIT, IMAGE, "policy", "prices", "schema of the code"):
        assert part in done.stdout
