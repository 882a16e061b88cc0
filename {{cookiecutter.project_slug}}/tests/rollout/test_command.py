"""`app rollout judge`: a pipeline reads the exit code, a person the table."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.settings import ROOT

TIMES = {"began": "2026-01-05T12:00:00Z", "until": "2026-01-05T12:20:00Z"}


def _seen(canary_errors: float, total: int = 400) -> dict[str, Any]:
    def arm(errors: float) -> dict[str, Any]:
        metrics = {
            "errors": {"events": errors, "total": total},
            "golden_cases": {"events": 48, "total": 48},
            "latency_ms": {"values": [200 + n % 50 for n in range(200)]},
            "cost_usd": {"values": [0.01 + n % 7 / 1_000 for n in range(200)]},
        }
        return {**TIMES, "metrics": metrics}

    began = {"stage": 1, "look": 1, "rollout_began": TIMES["began"]}
    return {**began, "canary": arm(canary_errors), "stable": arm(2)}


def _judge(folder: Path, seen: Any, *options: str) -> subprocess.CompletedProcess[str]:
    file = folder / "seen.json"
    file.write_text(seen if isinstance(seen, str) else json.dumps(seen))
    command = [sys.executable, "-m", "app", "rollout", "judge", str(file), "--now", "2026-01-05T12:20:05Z", *options]
    environment = {**os.environ, "MODEL_PROVIDER": "nobody"}  # a pipeline has no settings of a service
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_the_exit_code_is_the_verdict(tmp_path: Path) -> None:
    for seen, code, kind in ((_seen(2), 0, "promote"), (_seen(40), 1, "abort"), (_seen(0, total=50), 2, "hold")):
        done = _judge(tmp_path, seen, "--json")
        verdict = json.loads(done.stdout)
        assert (done.returncode, verdict["kind"]) == (code, kind), done.stderr
        assert {finding["metric"] for finding in verdict["findings"]} >= {"errors", "latency_ms", "refusals"}
        assert verdict["missing"] == (9 if kind == "hold" else verdict["missing"])


def test_a_person_reads_what_was_seen_and_what_decided(tmp_path: Path) -> None:
    done = _judge(tmp_path, _seen(0, total=50))
    shown = " ".join(done.stdout.split())
    assert "hold: not proven yet: errors: 50 of 59 canary requests seen" in shown
    assert "errors critical undecided 0/50 2/50 Fisher" in shown
    assert "needs about 9 more requests" in done.stderr


def test_the_example_of_the_documentation_is_judged_as_it_says(tmp_path: Path) -> None:
    _, _, rest = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").partition("```json\n")
    done = _judge(tmp_path, rest.partition("```")[0], "--now", "2026-01-05T12:06:10Z")
    assert "hold: not proven yet: errors: 50 of 59 canary requests seen; latency_ms:" in " ".join(done.stdout.split())


def test_numbers_that_are_none_hold(tmp_path: Path) -> None:
    done = _judge(tmp_path, _seen(float("nan")), "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["rule"] == "unproven"


@pytest.mark.parametrize(
    ("seen", "options", "words"),
    [
        ("{", (), "cannot be judged"),
        ({**_seen(1), "staeg": 1}, (), "staeg"),
        ({**_seen(1), "rollout_began": "2026-01-05T12:00:00"}, (), "rollout_began"),
        ({**_seen(1), "stage": 9}, (), "stage 9"),
        (_seen(1), ("--now", "noon"), "--now"),
        (_seen(1), ("--now", "2026-01-05T12:20:00"), "zone"),
    ],
)
def test_what_cannot_be_judged_is_named_and_does_not_promote(
    tmp_path: Path, seen: Any, options: tuple[str, ...], words: str
) -> None:
    done = _judge(tmp_path, seen, *options)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_rules_file_that_cannot_be_used_does_not_promote(tmp_path: Path) -> None:
    (tmp_path / "rollout.toml").write_text("[judging]\nconfidence = 2\n")
    done = _judge(tmp_path, _seen(2), "--config", str(tmp_path))
    assert done.returncode == 2
    assert "judging.confidence" in done.stderr
