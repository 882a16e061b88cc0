"""Evaluations ask the offline model, whatever the settings say, unless they are told to spend money."""

import json
import os
import subprocess
import sys

NOWHERE = {"MODEL_PROVIDER": "openai", "MODEL_API_KEY": "sk-test-only", "MODEL_BASE_URL": "http://127.0.0.1:1"}


def _evaluated(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "app", "evals", "run", *arguments]
    environment = {**os.environ, "ENVIRONMENT": "test", **NOWHERE}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_evaluations_ask_no_provider_unless_told_to() -> None:
    done = _evaluated()
    assert done.returncode == 0, done.stderr
    assert "The offline model was evaluated" in done.stdout
    told = json.loads(_evaluated("--live", "--json").stdout)
    assert [report["ok"] for report in told] == [False], "the provider that is not there was asked"
