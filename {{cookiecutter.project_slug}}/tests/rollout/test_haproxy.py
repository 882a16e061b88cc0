"""What is said on HAProxy's runtime socket, to a stub of HAProxy 2.6; `make rollout-drill` has a real one."""

import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.rollout.haproxy import HAProxy
from app.rollout.platform import PlatformFailed

HEAD = "# pxname,svname,status,check_status,last_chk,scur,econ,eresp"


class Stub:
    """`rows`: what `show stat` says of green, one after the other; the last one repeats."""

    def __init__(self, path: Path, rows: list[str], refuses: str = "") -> None:
        self.rows, self.refuses, self.heard = rows, refuses, list[str]()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                command = connection.recv(1_024).decode().strip()
                if command == "end":
                    return
                connection.sendall(self._answer(command).encode())

    def _answer(self, command: str) -> str:
        if command == "show stat":
            row = self.rows.pop(0) if len(self.rows) > 1 else self.rows[0]
            return f"{HEAD}\napp,blue,UP,L7OK,,9,0,0\napp,green,{row}\n\n"
        self.heard.append(command)
        return "No such server.\n\n" if self.refuses and command.startswith(self.refuses) else "\n"

    def close(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as last:
            last.connect(str(path))
            last.sendall(b"end\n")
        self._thread.join()
        self._listener.close()


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # a socket's path is short
        yield Path(folder) / "s"


def test_a_server_is_up_only_after_a_check_that_passed(path: Path) -> None:
    rows = ["MAINT,,,0,0,0", "UP,,,0,0,0", "DOWN,L4CON,refused,0,0,0", "UP,L7OK,,0,0,0"]
    stub = Stub(path, rows)
    HAProxy(path).admit("green", 30)
    assert stub.heard == [
        "set weight app/green 0",
        "set server app/green health down",
        "set server app/green state ready",
    ]
    assert stub.rows == ["UP,L7OK,,0,0,0"], "it was asked until the check had passed"
    stub.close(path)


def test_a_check_that_never_passes_is_told(path: Path) -> None:
    stub = Stub(path, ["DOWN,L7STS,503,0,0,0"])
    with pytest.raises(PlatformFailed, match="green has passed no check of HAProxy within 0 s: DOWN, L7STS 503"):
        HAProxy(path).admit("green", 0)
    stub.close(path)


def test_a_drain_waits_for_the_last_session_and_ends_in_maintenance(path: Path) -> None:
    stub = Stub(path, ["DRAIN,L7OK,,2,0,0", "DRAIN,L7OK,,1,0,0", "DRAIN,L7OK,,0,0,0"])
    assert HAProxy(path).drain("green", 30) == 0
    assert stub.heard == ["set server app/green state drain", "set server app/green state maint"]
    stub.rows[:] = ["DRAIN,L7OK,,2,0,0"]
    assert HAProxy(path).drain("green", 0) == 2, "what is still open is said"
    stub.close(path)


def test_weights_never_leave_everything_at_zero_and_are_saved(path: Path) -> None:
    stub = Stub(path, ["UP,L7OK,,0,3,4"])
    balancer = HAProxy(path, saved_state=path.with_name("state"))
    balancer.set_weights({"green": 0, "blue": 100})
    assert stub.heard == ["set weight app/blue 100", "set weight app/green 0", "show servers state"]
    assert path.with_name("state").exists()
    assert balancer.unanswered("green") == 7
    stub.close(path)


def test_what_haproxy_refuses_or_does_not_have_is_said_in_a_sentence(path: Path) -> None:
    with pytest.raises(PlatformFailed, match="HAProxy does not answer on"):
        HAProxy(path).stat("green")
    stub = Stub(path, ["UP,L7OK,,0,0,0"], refuses="set weight")
    with pytest.raises(PlatformFailed, match="refused `set weight app/green 5`: No such server"):
        HAProxy(path).set_weights({"green": 5})
    with pytest.raises(PlatformFailed, match="no server app/red"):
        HAProxy(path).stat("red")
    stub.close(path)
