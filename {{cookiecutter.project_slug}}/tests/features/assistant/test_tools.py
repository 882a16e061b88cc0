"""The support desk's tools through the whole service: an approved delete and an approved post."""

from pathlib import Path
from typing import Any

from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.service import Service, running
from gates.rig.sink import sink


def _approved(service: Service, who: Person, approver: Person, task: str) -> Any:
    run_id = service.start_run(who, task).json()["id"]
    service.run_until(who, run_id, "waiting")
    [question] = service.pending(approver, run_id)
    assert service.decide(approver, question).status_code == 200
    return service.run_until(who, run_id, "succeeded", "failed")


def test_a_ticket_is_created_found_and_deleted(service: Service) -> None:
    operator, approver = service.people(["operator"], ["approver"])
    run = _approved(service, operator, approver, "Create a ticket: the printer is jammed.")
    [ticket_id] = run["output"]["ticket_ids"]
    again = service.start_run(operator, "Search the tickets for printer.")
    found = service.run_until(operator, again.json()["id"], "succeeded")
    assert found["output"]["ticket_ids"] == [ticket_id]
    _approved(service, operator, approver, f"Delete ticket {ticket_id}.")
    assert service.call(operator, "GET", "/v1/assistant/tickets").json()["items"] == []


def test_an_approved_post_reaches_a_listed_address_once_and_no_other(new_sqlite: NewDatabase, tmp_path: Path) -> None:
    with sink() as hook, running(new_sqlite(), tmp_path, EGRESS_ALLOW=f'["{hook.url}"]') as service:
        operator, approver = service.people(["operator"], ["approver"])
        run = _approved(service, operator, approver, f"Notify {hook.url}/desk that the printer works again.")
        assert run["state"] == "succeeded"
        assert len(hook.at("/desk")) == 1
        elsewhere = hook.url.replace("127.0.0.1", "localhost")
        run = _approved(service, operator, approver, f"Notify {elsewhere}/desk that the printer works again.")
        assert "allow-list" in run["output"]["answer"]
        assert len(hook.hits) == 1
