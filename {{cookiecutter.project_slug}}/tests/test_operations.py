"""Alerts look at metrics that exist and name runbooks that exist; runbooks hold commands that run."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.settings import ROOT
from app.telemetry.metrics import REGISTRY
from gates.rig.databases import NewDatabase

MONITORING = ROOT / "deploy" / "monitoring"
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("RB-*.md"))


def _alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def _commands(runbook: Path) -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", runbook.read_text(), re.DOTALL)
    return [shlex.split(line) for block in blocks for line in block.splitlines() if line.strip()]


def test_every_alert_has_an_owner_a_severity_a_delay_and_a_runbook() -> None:
    assert _alerts()
    for alert in _alerts():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["labels"]["owner"]
        assert alert["for"]
        assert (ROOT / alert["annotations"]["runbook_url"]).is_file()


def test_every_alert_looks_at_metrics_that_exist() -> None:
    known = {sample.name for metric in REGISTRY.collect() for sample in metric.samples}
    # One with labels has no sample before its first value.
    known |= {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in REGISTRY.collect()}
    for alert in _alerts():
        used = set(re.findall(r"\b(?:ai|app|http)_[a-z_]+", alert["expr"]))
        assert used
        assert used <= known


def test_every_alert_is_tested_firing_and_quiet() -> None:
    tests = yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for alert in _alerts():
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == alert["alert"]}
        assert outcomes == {True, False}


def test_the_rules_hold_under_promtool_where_it_is_installed() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        return  # `make alerts` says how to install it
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("runbook", RUNBOOKS, ids=lambda path: path.stem)
def test_every_command_of_a_runbook_runs(runbook: Path, new_sqlite: NewDatabase) -> None:
    commands = _commands(runbook)
    assert commands
    environment = {**os.environ, "ENVIRONMENT": "test", "DATABASE_URL": new_sqlite()}
    for command in commands:
        assert command[0] == "app"
        done = subprocess.run(
            [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
