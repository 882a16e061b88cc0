"""The support desk's tools through the whole service: an approved delete and an approved post."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.service import Service, running


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    received: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    server.server_close()


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


def test_an_approved_post_reaches_a_listed_address_once_and_no_other(
    new_sqlite: NewDatabase, tmp_path: Path, hook: tuple[str, list[bytes]]
) -> None:
    address, received = hook
    with running(new_sqlite(), tmp_path, EGRESS_ALLOW=f'["{address}"]') as service:
        operator, approver = service.people(["operator"], ["approver"])
        run = _approved(service, operator, approver, f"Notify {address}/desk that the printer works again.")
        assert run["state"] == "succeeded"
        assert len(received) == 1
        elsewhere = address.replace("127.0.0.1", "localhost")
        run = _approved(service, operator, approver, f"Notify {elsewhere}/desk that the printer works again.")
        assert "allow-list" in run["output"]["answer"]
        assert len(received) == 1
