"""`app rollout start|status|abort|rollback`: what is refused and why, before anything is touched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.entrypoints import commands_rollout_drive as drive
from app.errors import RequestInvalid
from app.rollout.record import Record, State, Version

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


def _serves(fleet: Path, digest: str, *previous: str, bindings: dict[str, str] | None = None) -> None:
    state = State(stable=Version(slot="blue", digest=digest), previous=list(previous), bindings=bindings or {})
    Record(fleet / "rollouts").save(state)


def _rollout(fleet: Path, *words: str, key: str = "a-key") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "app", "rollout", *words, "--fleet", str(fleet / "fleet.toml")]
    environment = {**os.environ, "ROLLOUT_KEY": key, "MODEL_PROVIDER": "nobody", "COLUMNS": "300"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


def test_what_cannot_be_rolled_out_is_refused_in_one_sentence(fleet: Path) -> None:
    _serves(fleet, "sha256:a")
    for words, key, told in (
        (
            ("start", "sha256:z"),
            "a-key",
            "sha256:z is not in releases.toml and was not rolled out here: name its release",
        ),
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
    assert "names no rollback_to for sha256:a: give --to RELEASE or DIGEST" in _rollout(fleet, "rollback").stderr


NEW, OTHER = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def _bindings(fleet: Path) -> dict[str, str]:
    return Record(fleet / "rollouts").load().bindings


def _unbuilt(fleet: Path) -> None:
    """1.3.0 and 1.4.0 are in the file, and their images are not known there."""
    more = (
        f'[[releases]]\nrelease = "{name}"\nrollback_to = "1.1.0"\nschema = ["t0003"]\n' for name in ("1.3.0", "1.4.0")
    )
    (fleet / "releases.toml").write_text("\n".join((RELEASES, *more)))


def test_a_rollout_binds_the_image_to_its_release_and_a_rollback_finds_it_by_either(fleet: Path) -> None:
    _unbuilt(fleet)
    _serves(fleet, "sha256:b")
    done = _rollout(fleet, "start", NEW, "--release", "1.3.0")
    assert "HAProxy does not answer" in done.stderr, "as far as a machine without one comes"
    assert _bindings(fleet) == {"1.3.0": NEW}
    _serves(fleet, "sha256:c", bindings=_bindings(fleet))
    for target in (NEW, "1.3.0"):
        done = _rollout(fleet, "rollback", "--to", target, "--dry-run", "--json")
        assert json.loads(done.stdout) == [{"from": "sha256:c", "to": NEW, "how": "stage by stage"}], done.stderr


def test_a_release_is_one_image_and_an_image_one_release(fleet: Path) -> None:
    _unbuilt(fleet)
    _serves(fleet, "sha256:b", bindings={"1.3.0": NEW})
    for digest, release, told in (
        (OTHER, "1.5.0", "releases.toml has no release 1.5.0: add it with its rollback_to"),
        (OTHER, "1.3.0", f"Release 1.3.0 is {NEW} already: give this image a version of its own"),
        (OTHER, "1.0.0", "Release 1.0.0 is sha256:a already"),
        (NEW, "1.4.0", f"{NEW} is release 1.3.0 already: start it as --release 1.3.0"),
        ("latest", "1.4.0", "latest is not the digest of an image"),
    ):
        with pytest.raises(RequestInvalid, match=told):
            drive.start(digest, release, fleet / "fleet.toml")
    with pytest.raises(RequestInvalid, match=r"Release 1\.4\.0 was never rolled out here"):
        drive.rollback("1.4.0", fleet / "fleet.toml", dry_run=True)
    assert _bindings(fleet) == {"1.3.0": NEW}, "what was refused is bound to nothing"


def test_what_was_rolled_out_by_release_is_known_without_it(fleet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROLLOUT_KEY", "a-key")
    _unbuilt(fleet)
    _serves(fleet, "sha256:b", bindings={"1.3.0": NEW})
    with pytest.raises(RequestInvalid, match="HAProxy does not answer"):
        drive.start(NEW, fleet=fleet / "fleet.toml")


@pytest.mark.parametrize("bindings", [{"1.2.0": NEW}, {"1.2.0": "sha256:b"}])
def test_a_file_that_gives_a_release_another_image_than_was_rolled_out_is_refused(
    fleet: Path, bindings: dict[str, str]
) -> None:
    _serves(fleet, "sha256:a", bindings=bindings)
    with pytest.raises(RequestInvalid, match=r"was rolled out here as release 1.2.0, and releases.toml says otherwise"):
        drive.rollback("1.2.0", fleet / "fleet.toml")


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
