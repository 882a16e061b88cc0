"""`kill -9` at the worst moments: nothing is lost and nothing happens twice."""

from pathlib import Path

import pytest

from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.service import Service, running

TASK = "Check whether we know this outage, and create a ticket for it."


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh(request: pytest.FixtureRequest) -> NewDatabase:
    found: NewDatabase = request.getfixturevalue("new_sqlite" if request.param == "sqlite" else "new_postgres")
    return found


def _tickets(service: Service, who: Person) -> int:
    return len(service.call(who, "GET", "/v1/assistant/tickets").json()["items"])


def test_a_run_that_waits_survives_kill_9_and_the_ticket_is_created_once(fresh: NewDatabase, tmp_path: Path) -> None:
    with running(fresh(), tmp_path) as service:
        member, approver = service.people(["member"], ["approver"])
        run_id = service.start_run(member, TASK).json()["id"]
        service.run_until(member, run_id, "waiting")
        service.kill()
        service.start()
        [question] = service.pending(approver, run_id)
        assert service.decide(approver, question).status_code == 200
        run = service.run_until(member, run_id, "succeeded")
        assert _tickets(service, member) == 1
        assert run["usage"]["model_calls"] == 3


def test_a_decision_just_before_kill_9_is_carried_out_after_the_restart(fresh: NewDatabase, tmp_path: Path) -> None:
    with running(fresh(), tmp_path) as service:
        member, approver = service.people(["member"], ["approver"])
        runs = [service.start_run(member, TASK).json()["id"] for _ in range(3)]
        for run_id in runs:
            service.run_until(member, run_id, "waiting")
            [question] = service.pending(approver, run_id)
            assert service.decide(approver, question).status_code == 200
        service.kill()
        service.start()
        for run_id in runs:
            service.run_until(member, run_id, "succeeded")
        assert _tickets(service, member) == 3


def test_runs_in_the_middle_of_their_work_are_finished_after_kill_9(fresh: NewDatabase, tmp_path: Path) -> None:
    with running(fresh(), tmp_path) as service:
        member, *_ = service.people(["member"])
        runs = [service.start_run(member, f"Find tickets about printer {n}.").json()["id"] for n in range(12)]
        service.kill()
        service.start()
        for run_id in runs:
            run = service.run_until(member, run_id, "succeeded", "failed")
            assert run["state"] == "succeeded"


def test_sigterm_ends_the_service_cleanly(fresh: NewDatabase, tmp_path: Path) -> None:
    with running(fresh(), tmp_path) as service:
        assert service.stop() == 0
        assert "Traceback" not in service.log.read_text()
