"""The driver on a fleet in memory: what it does in which order, what ends it, and what a killed one leaves behind."""

import json
from pathlib import Path

import pytest

from app.rollout.driver import RolloutRefused
from app.rollout.record import Phase, Record, RolloutBusy, StateUnreadable
from app.rollout.releases import BindingConflict
from app.rollout.rules import RolloutRules
from app.settings import ROOT
from tests.rollout.fake_platform import Behaviour, FakePlatform, Killed, driver

RULES = RolloutRules.load(ROOT / "config")


@pytest.fixture
def fleet(tmp_path: Path) -> FakePlatform:
    """v1 serves in the blue slot."""
    platform = FakePlatform()
    state = driver(platform, tmp_path, RULES).roll_out("v1")
    assert (state.stable and state.stable.slot, state.staged, platform.weights) == ("blue", False, {"blue": 100})
    platform.done.clear()
    return platform


def _weights_of(platform: FakePlatform, slot: str) -> list[int]:
    texts = [done.removeprefix("weights ") for done in platform.done if done.startswith("weights ")]
    return [json.loads(text.replace("'", '"'))[slot] for text in texts]


def test_a_good_version_goes_through_every_stage_and_the_old_one_drains_before_it_ends(
    fleet: FakePlatform, tmp_path: Path
) -> None:
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert (state.phase, state.reason, state.stable and state.stable.digest) == (Phase.IDLE, "", "v2")
    assert _weights_of(fleet, "green") == [5, 25, 50, 100, 100]
    assert fleet.done[:2] == ["start green v2", "admit green"]
    assert fleet.done[-2:] == ["drain blue", "stop blue"]
    assert state.previous == ["v1"]
    events = [line["event"] for line in Record(tmp_path).logged() if line["rollout"] == state.rollout]
    assert (events[0], events[-1]) == ("started", "promoted")


BAD = {
    "30 % errors": Behaviour(errors=0.3),
    "5 % errors": Behaviour(errors=0.05),
    "twice as slow": Behaviour(slower=2),
    "twice as dear": Behaviour(dearer=2),
    "golden cases fail": Behaviour(golden=8),
    "silent": Behaviour(silent=True),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_version_is_taken_back_and_the_old_one_has_all_traffic(
    fleet: FakePlatform, tmp_path: Path, bad: str
) -> None:
    fleet.behaviours["v2"] = BAD[bad]
    opened = []
    state = driver(fleet, tmp_path, RULES, incident=lambda state: opened.append(state.reason)).roll_out("v2")
    assert (state.stable and state.stable.digest, state.canary, state.phase) == ("v1", None, Phase.IDLE)
    assert state.reason
    assert opened == [state.reason]
    assert 100 not in _weights_of(fleet, "green")
    assert fleet.done[-3:] == ["weights {'green': 0, 'blue': 100}", "drain green", "stop green"]
    assert fleet.running == {"blue": "v1"}


def test_thirty_percent_errors_end_it_between_two_looks(fleet: FakePlatform, tmp_path: Path) -> None:
    fleet.behaviours["v2"], began = Behaviour(errors=0.3), fleet.moment
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert state.reason.startswith("failure_floor")
    assert (fleet.moment - began).total_seconds() < 100, "no look is waited for"


def test_a_version_that_is_never_healthy_gets_no_request(fleet: FakePlatform, tmp_path: Path) -> None:
    fleet.behaviours["v2"] = Behaviour(healthy=False)
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert "not healthy" in state.reason
    assert _weights_of(fleet, "green") == [0]
    assert "admit green" not in fleet.done


def test_without_users_the_canary_tenant_supplies_what_each_margin_takes(fleet: FakePlatform, tmp_path: Path) -> None:
    fleet.users = False
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    sent = [line for line in Record(tmp_path).logged() if line["event"] == "synthetic"]
    by_stage = [sum(line["requests"] for line in sent if line["stage"] == stage) for stage in (1, 2, 3)]
    assert (state.reason, state.stable and state.stable.digest) == ("", "v2")
    assert [n >= least for n, least in zip(by_stage, (59, 149, 299), strict=True)] == [True] * 3, by_stage


def test_a_release_stays_bound_to_its_image_whatever_becomes_of_the_rollout(
    fleet: FakePlatform, tmp_path: Path
) -> None:
    fleet.behaviours["v2"] = Behaviour(errors=0.3)
    assert driver(fleet, tmp_path, RULES).roll_out("v2", release="1.1.0").reason
    fleet.killed_at = "admit green"
    with pytest.raises(Killed):
        driver(fleet, tmp_path, RULES).roll_out("v3", release="1.2.0")
    assert Record(tmp_path).load().bindings == {"1.1.0": "v2", "1.2.0": "v3"}
    assert driver(fleet, tmp_path, RULES).roll_out("v3", release="1.2.0").reason == ""
    for digest, release in (("v4", "1.1.0"), ("v2", "1.3.0")):
        with pytest.raises(BindingConflict):
            driver(fleet, tmp_path, RULES).roll_out(digest, release=release)
    assert Record(tmp_path).load().bindings == {"1.1.0": "v2", "1.2.0": "v3"}


STEPS = ("start green", "admit green", "weights {'green': 5", "weights {'green': 25", "synthetic", "drain blue",
         "stop blue")  # fmt: skip


@pytest.mark.parametrize("step", STEPS)
def test_a_driver_that_was_killed_goes_on_when_it_is_started_again(
    fleet: FakePlatform, tmp_path: Path, step: str
) -> None:
    fleet.killed_at = step
    with pytest.raises(Killed):
        driver(fleet, tmp_path, RULES).roll_out("v2")
    with pytest.raises(RolloutRefused, match="under way"):
        driver(fleet, tmp_path, RULES).roll_out("v3")
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert (state.stable and state.stable.digest, state.previous, state.reason) == ("v2", ["v1"], "")
    assert fleet.running == {"green": "v2"}


@pytest.mark.parametrize("step", ["weights {'green': 0", "drain green", "stop green"])
def test_a_driver_that_was_killed_while_it_took_the_traffic_back_goes_on_with_that(
    fleet: FakePlatform, tmp_path: Path, step: str
) -> None:
    fleet.behaviours["v2"], fleet.killed_at = Behaviour(errors=0.3), step
    with pytest.raises(Killed):
        driver(fleet, tmp_path, RULES).roll_out("v2")
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert state.reason.startswith("failure_floor")
    assert (fleet.running, fleet.weights) == ({"blue": "v1"}, {"green": 0, "blue": 100})


def test_a_canary_that_died_with_its_driver_is_taken_out(fleet: FakePlatform, tmp_path: Path) -> None:
    fleet.killed_at = "weights {'green': 25"
    with pytest.raises(Killed):
        driver(fleet, tmp_path, RULES).roll_out("v2")
    fleet.running.pop("green")
    state = driver(fleet, tmp_path, RULES).roll_out("v2")
    assert "not healthy" in state.reason
    assert fleet.weights == {"green": 0, "blue": 100}


def test_somebody_else_s_abort_is_heard_by_the_driver_at_work(fleet: FakePlatform, tmp_path: Path) -> None:
    def told(text: str) -> None:
        if text.startswith("stage"):
            other = driver(fleet, tmp_path, RULES)
            with pytest.raises(RolloutBusy):
                other.abort("by hand")
            other.record.request_abort("by hand")

    state = driver(fleet, tmp_path, RULES, told=told).roll_out("v2")
    assert (state.reason, fleet.running) == ("by hand", {"blue": "v1"})
    assert driver(fleet, tmp_path, RULES).roll_out("v2").reason == "", "an old request does not end the next rollout"


def test_an_abort_without_a_driver_takes_the_traffic_back_itself(fleet: FakePlatform, tmp_path: Path) -> None:
    fleet.killed_at = "weights {'green': 25"
    with pytest.raises(Killed):
        driver(fleet, tmp_path, RULES).roll_out("v2")
    state = driver(fleet, tmp_path, RULES).abort("by hand")
    assert (state.reason, fleet.running, fleet.weights["blue"]) == ("by hand", {"blue": "v1"}, 100)
    with pytest.raises(RolloutRefused, match="nothing to abort"):
        driver(fleet, tmp_path, RULES).abort("again")


def test_the_last_three_are_kept_and_go_back_without_stages(fleet: FakePlatform, tmp_path: Path) -> None:
    for digest in ("v2", "v3", "v4"):
        driver(fleet, tmp_path, RULES).roll_out(digest, staged=False)
    state = driver(fleet, tmp_path, RULES).roll_out("v5", staged=False)
    assert state.previous == ["v4", "v3", "v2"]
    fleet.done.clear()
    state = driver(fleet, tmp_path, RULES).roll_out("v3", kind="rollback", staged=False)
    serving = state.stable.slot if state.stable else ""
    assert _weights_of(fleet, serving) == [100]
    assert [done.split()[0] for done in fleet.done] == ["start", "admit", "weights", "drain", "stop"]
    assert state.previous == ["v5", "v4", "v2"]


def test_what_serves_already_is_refused_and_a_state_of_something_else_is_said(
    fleet: FakePlatform, tmp_path: Path
) -> None:
    with pytest.raises(RolloutRefused, match="serves already"):
        driver(fleet, tmp_path, RULES).roll_out("v1")
    (tmp_path / "state.json").write_text('{"phase": "nowhere"}')
    with pytest.raises(StateUnreadable, match="is not the state of a rollout"):
        driver(fleet, tmp_path, RULES).roll_out("v2")
