"""A model's retirement date: strictly a date; past, it stops a release and not a service that starts again."""

import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from app.config_files import SettingsInvalid
from app.gateway.catalog import Catalog
from app.gateway.retirement import ModelRetired, require_not_retired, retired, retirements
from app.settings import ROOT
from gates.rig.databases import NewDatabase
from gates.rig.service import running

PLACE = 'standard = { model = "offline-deterministic-1",'


def _config(folder: Path, retires: str) -> Path:
    config = Path(shutil.copytree(ROOT / "config", folder / "config"))
    text = (config / "models.toml").read_text()
    assert PLACE in text
    (config / "models.toml").write_text(text.replace(PLACE, f"{PLACE} retires = {retires},"))
    return config


def _catalog(folder: Path, retires: str) -> Catalog:
    return Catalog.load(_config(folder, retires) / "models.toml", "offline")


@pytest.mark.parametrize("written", ['"2027-01-31"', "2027-01-31T00:00:00Z", "2027-01-31T00:00:00", "20270131", "true"])
def test_what_is_no_date_is_refused_by_its_name(tmp_path: Path, written: str) -> None:
    with pytest.raises(SettingsInvalid, match=r"providers\.offline\.standard\.retires: .*date"):
        _catalog(tmp_path, written)


def test_the_first_day_without_it_counts(tmp_path: Path) -> None:
    catalog = _catalog(tmp_path, "2027-01-31")
    model = "offline-deterministic-1"
    assert retirements(catalog) == {model: date(2027, 1, 31)}
    assert retired(catalog, date(2027, 1, 30)) == {}
    require_not_retired(catalog, date(2027, 1, 30))
    with pytest.raises(ModelRetired, match=rf"{model} \(2027-01-31\)"):
        require_not_retired(catalog, date(2027, 1, 31))


def test_a_service_starts_with_a_retired_model_says_so_and_measures_it(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    config = str(_config(tmp_path, "2024-01-31"))
    with running(new_sqlite(), tmp_path, CONFIG_DIR=config, LOG_FORMAT="json") as service:
        metrics = service.operations("/metrics").text
        assert 'ai_model_retires_timestamp_seconds{model="offline-deterministic-1"} 1.7066592e+09' in metrics
        assert "model.retired" in service.log.read_text()
        environment = {**os.environ, "CONFIG_DIR": config, "DATABASE_URL": service.database_url, "ENVIRONMENT": "test"}
        command = [sys.executable, "-m", "app", "doctor"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "offline-deterministic-1 was retired on 2024-01-31" in " ".join(done.stderr.split())
