"""Gate 8, deployment: how a new version comes in, and how it goes again."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.entrypoints import revisions
from app.rollout import report
from app.rollout.counters import Counters
from app.rollout.record import Record, State
from app.rollout.releases import BindingConflict, Releases
from app.rollout.rules import RolloutRules
from app.rollout.verdict import Kind
from app.settings import ROOT
from benchmarks.rollout_judge import EQUAL, SCENARIOS, simulate
from gates.proof import Proof, control
from gates.rig.databases import NewDatabase
from gates.rig.plain_http import PLAIN
from gates.rig.world import World
from gates.rollout.direct import Direct
from gates.rollout.fleet import common_settings, configuration, keys
from gates.rollout.version import DELAY, ERRORS, PAUSE

PRODUCT = RolloutRules.load(ROOT / "config")
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
BACK_WITHIN_S, ROLLED_BACK_WITHIN_S = 30, 300
OLD, NEW, BAD, WORSE = "sha256:old", "sha256:new", "sha256:bad", "sha256:worse"
RELEASES = """
[[releases]]
release = "1.0.0"
schema = ["t0001"]

[[releases]]
release = "1.1.0"
rollback_to = "1.0.0"
schema = ["t0003"]
min_schema = ["MIN"]
"""


@contextmanager
def _fleet(new_postgres: NewDatabase, folder: Path) -> Iterator[Direct]:
    """One version serves; people use it."""
    database_url, config = new_postgres(), configuration(folder, "")
    common = {**common_settings(database_url, config), PAUSE: "0.1", DELAY: "0.02"}
    key, _ = keys(database_url, config)
    versions = {OLD: common, NEW: common, BAD: {**common, ERRORS: "0.4"}, WORSE: common}
    fleet = Direct(database_url, folder, versions, golden={WORSE: 6}, key=key)
    try:
        yield fleet
    finally:
        fleet.close()


def _rolled_out(fleet: Direct, folder: Path, digest: str, *, release: str | None = None, staged: bool = True) -> State:
    record = Record(folder / "rollouts")

    def incident(state: State) -> None:
        report.open_incident(record, state, "now")

    with fleet.driver(record.folder, incident) as driver:
        return driver.roll_out(digest, release=release, staged=staged)


def _serving(state: State) -> str:
    return state.stable.digest if state.stable else ""


@pytest.mark.timeout(900)
@control("DEP-07", cases=14)
def test_a_bad_version_is_taken_back_by_itself_and_a_good_one_goes_through(
    proof: Proof, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    with _fleet(new_postgres, tmp_path) as fleet:
        _rolled_out(fleet, tmp_path, OLD)
        with fleet.users(asking=3, streaming=4):
            with proof.positive("a good version goes through"):
                state = _rolled_out(fleet, tmp_path, NEW)
                assert (_serving(state), state.reason) == (NEW, "")
            proof.same("drained", fleet.open_at_stop, [0], "requests that were open when the old version ended:")
            proof.same("drained", dict(fleet.failed), {}, "what users saw of it:")
            for digest, why in ((BAD, "errors"), (WORSE, "golden_cases")):
                state = _rolled_out(fleet, tmp_path, digest)
                proof.same("drained", fleet.open_at_stop[-1], 0, f"{why}: requests that were open when it ended:")
                proof.same("bad-comes-back", _serving(state), NEW, why)
                proof.holds("bad-comes-back", why in state.reason, state.reason)
                proof.same("traffic-back", [slot for slot, weight in fleet.weights.items() if weight], _slots(state))
                proof.in_time("traffic-back", _back_after(tmp_path, state.rollout), BACK_WITHIN_S)
                opened_ = tmp_path / "rollouts" / "incidents" / f"rollout-{state.rollout:04}.md"
                proof.holds("incident", opened_.exists() and why in opened_.read_text(), why)


def _slots(state: State) -> list[str]:
    return [state.stable.slot] if state.stable else []


def _back_after(folder: Path, rollout: int) -> float:
    lines = [line for line in Record(folder / "rollouts").logged() if line["rollout"] == rollout]
    times = {line["event"]: datetime.fromisoformat(line["time"]) for line in lines}
    return (times["traffic_back"] - times["look"]).total_seconds()


@control("DEP-07", cases=9)
def test_the_judge_aborts_hardly_a_good_release_and_promotes_none_without_proof(proof: Proof, world: World) -> None:
    with proof.positive("a version's own metrics are read"):
        assert Counters.parse(world.service.operations("/metrics").text).requests >= 0
    good = simulate(PRODUCT, EQUAL, 200)
    proof.holds("good-not-aborted", good[Kind.ABORT] <= 4, f"{good} of 200 with 1 % errors in both arms")
    proof.holds("good-not-aborted", good[Kind.PROMOTE] > 80, f"{good}: a judge that holds everything is useless")
    for name in ("1 % to 6 % errors", "0 % to 2 % errors", "twice as slow"):
        ends = simulate(PRODUCT, BY_NAME[name], 200)
        proof.same("worse-not-promoted", ends[Kind.PROMOTE], 0, f"{name}: promoted of 200:")
    for name in ("fed NaN", "fed nothing", "one arm only", "a clock 3 minutes off"):
        ends = simulate(PRODUCT, BY_NAME[name], 20)
        proof.same("no-data-no-promotion", ends[Kind.PROMOTE], 0, f"{name}: promoted of 20:")


@pytest.mark.timeout(900)
@control("DEP-02", cases=9)
def test_a_rollback_under_load_fails_nothing_and_is_refused_where_the_older_cannot_read(
    proof: Proof, new_postgres: NewDatabase, tmp_path: Path
) -> None:
    with _fleet(new_postgres, tmp_path) as fleet:
        _rolled_out(fleet, tmp_path, OLD, release="1.0.0")
        with fleet.users(asking=3, streaming=2):
            with proof.positive("a newer version serves, and something is written by it"):
                assert _serving(_rolled_out(fleet, tmp_path, NEW, release="1.1.0", staged=False)) == NEW
                written = _asked(fleet, "POST", "/v1/runs", {"feature": "assistant", "task": "Say hello."})
            fleet.open_at_stop.clear()
            back = _releases(tmp_path, "t0001").rollback_target(NEW)
            proof.same("rolled-back", back.digest if back else None, OLD, "the image that the newer one goes back to:")
            state = _rolled_out(fleet, tmp_path, OLD, staged=False)
        proof.same("rolled-back", _serving(state), OLD)
        proof.same("rolled-back", state.previous[:1], [NEW], "the way forward again:")
        proof.same("no-failed-request", dict(fleet.failed), {}, f"of {sum(fleet.answered.values())}:")
        proof.same("no-failed-request", fleet.open_at_stop, [0], "requests that were open when the newer one ended:")
        proof.same("no-failed-request", _asked(fleet, "GET", f"/v1/runs/{written['id']}"), written)
        lines = [line for line in Record(tmp_path / "rollouts").logged() if line["rollout"] == state.rollout]
        proof.in_time("rolled-back", lines[-1]["seconds"], ROLLED_BACK_WITHIN_S)
        proof.holds("refused", _refused(fleet, tmp_path, WORSE, "1.0.0"), "another image went in as the same release")
    for needed, allowed in (("t0001", True), ("t0002", False)):
        releases = _releases(tmp_path, needed)
        why = releases.unreadable(NEW, OLD, lambda of: revisions.ancestors(ROOT / "migrations", of))
        proof.same("refused", "cannot read what 1.1.0 writes" in why, not allowed, why)


def _refused(fleet: Direct, folder: Path, digest: str, release: str) -> bool:
    try:
        _rolled_out(fleet, folder, digest, release=release, staged=False)
    except BindingConflict:
        return True
    return False


def _releases(folder: Path, needed: str) -> Releases:
    """The file as it was before the builds, with the images that were rolled out since."""
    file = folder / "releases.toml"
    file.write_text(RELEASES.replace("MIN", needed))
    return Releases.load(file).bound(Record(folder / "rollouts").load().bindings)


def _asked(fleet: Direct, method: str, path: str, body: Any = None) -> Any:
    """The serving version's answer, as JSON."""
    headers = {"Authorization": f"Bearer {fleet.key}", "Idempotency-Key": uuid4().hex}
    with fleet.choice() as (_, url):
        answer = httpx2.request(method, f"{url}{path}", json=body, headers=headers, **PLAIN, timeout=120)
    assert answer.status_code < 300, answer.text
    return answer.json()
