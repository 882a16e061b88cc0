"""`app rollout start|status|abort|rollback`: what is refused and why, before anything is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FLEET = """
[haproxy]
socket = "haproxy.sock"

[commands]
start = ["false"]
stop = ["false"]
golden_cases = ["false"]

[slots.blue]
app = "http://127.0.0.1:1"
operations = "http://127.0.0.1:1"

[slots.green]
app = "http://127.0.0.1:1"
operations = "http://127.0.0.1:1"
"""
RELEASES = """
[[releases]]
release = "1.0.0"
digest = "sha256:a"
schema = ["t0001"]

[[releases]]
release = "1.1.0"
digest = "sha256:b"
rollback_to = "1.0.0"
schema = ["t0003"]

[[releases]]
release = "1.2.0"
digest = "sha256:c"
rollback_to = "1.1.0"
schema = ["t0003"]
min_schema = ["t0002"]
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(FLEET)
    (tmp_path / "releases.toml").write_text(RELEASES)
    return tmp_path


def _serves(fleet: Path, digest: str, *previous: str) -> None:
    (fleet / "rollouts").mkdir()
    state = {"stable": {"slot": "blue", "digest": digest}, "previous": previous}
    (fleet / "rollouts" / "state.json").write_text(json.dumps(state))


def _rollout(fleet: Path, *words: str, key: str = "a-key") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app", "rollout", *words, "--fleet", str(fleet / "fleet.toml")]
    environment = {**os.environ, "ROLLOUT_KEY": key, "MODEL_PROVIDER": "nobody", "COLUMNS": "300"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_what_cannot_be_rolled_out_is_refused_in_one_sentence(fleet: Path) -> None:
    _serves(fleet, "sha256:a")
    for words, key, told in (
        (("start", "sha256:z"), "a-key", "sha256:z is not in releases.toml"),
        (("start", "sha256:b"), "", "ROLLOUT_KEY is not set"),
        (("start", "sha256:a"), "a-key", "sha256:a serves already"),
        (
            ("start", "sha256:c"),
            "a-key",
            "no way back: 1.0.0 cannot read what 1.2.0 writes: that takes migration t0002",
        ),
        (("abort",), "a-key", "nothing to abort"),
        (("start", "sha256:b"), "a-key", "HAProxy does not answer"),
    ):
        done = _rollout(fleet, *words, key=key)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert told in done.stderr.replace("\n", " "), done.stderr
        assert "Traceback" not in done.stderr


def test_a_rollback_goes_where_the_release_says_unless_that_cannot_read_the_data(fleet: Path) -> None:
    _serves(fleet, "sha256:c", "sha256:b")
    done = _rollout(fleet, "rollback", "--dry-run", "--json")
    assert json.loads(done.stdout) == [{"from": "sha256:c", "to": "sha256:b", "how": "at once"}], done.stderr
    done = _rollout(fleet, "rollback", "--to", "sha256:a", "--dry-run")
    assert done.returncode == 2
    assert "Not rolled back: 1.0.0 cannot read what 1.2.0 writes: that takes migration t0002" in done.stderr
    status = json.loads(_rollout(fleet, "status", "--json").stdout)
    assert [(row["phase"], row["serves"], row["previous"]) for row in status] == [("idle", "sha256:c", ["sha256:b"])]


def test_nothing_is_rolled_back_where_nothing_serves_or_no_target_is_named(fleet: Path) -> None:
    assert "nothing to roll back" in _rollout(fleet, "rollback").stderr
    _serves(fleet, "sha256:a")
    assert "names no rollback_to for sha256:a: give --to DIGEST" in _rollout(fleet, "rollback").stderr


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("fleet.toml", "[haproxy]\n", "haproxy.socket: Field required"),
        ("releases.toml", RELEASES.replace('rollback_to = "1.1.0"', 'rollback_to = "2.0.0"'), "no earlier release"),
        ("releases.toml", RELEASES.replace('"t0003"', '"t9999"'), "no migration t9999 in migrations/"),
    ],
)
def test_a_file_that_cannot_be_used_says_where(fleet: Path, file: str, text: str, told: str) -> None:
    _serves(fleet, "sha256:c")
    (fleet / file).write_text(text)
    done = _rollout(fleet, "rollback")
    assert done.returncode == 2
    assert told in done.stderr
