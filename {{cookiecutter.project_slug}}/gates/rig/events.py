"""A reader of server-sent events (WHATWG HTML, 9.2), independent of the service's writer."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx2

from gates.rig.pace import REQUEST_SECONDS, grace, reached
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.service import Service, wait_for


@dataclass(frozen=True)
class Event:
    id: str
    name: str
    data: dict[str, Any]


@dataclass
class Stream:
    """What has arrived so far; `ended` once the service has closed the stream."""

    events: list[Event] = field(default_factory=list)
    status: int = 0
    ended: bool = False
    response: httpx2.Response | None = None

    @property
    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def wait(self, name: str, seconds: float = 20) -> Event:
        """The first event of this name."""
        return wait_for(lambda: next((event for event in self.events if event.name == name), None), seconds)

    def end(self, seconds: float = 20) -> Event:
        """The last event, once the service has closed the stream; one named `nothing` or `(open)` where it has not.

        It has `seconds`, and what the machine alone explains."""
        if not reached(lambda: self.ended, seconds) and not reached(lambda: self.ended, grace()):
            return Event("", "(open)", {})
        return self.events[-1] if self.events else Event("", "nothing", {})


@contextmanager
def streaming(service: Service, who: Person, run_id: str, *, after: str = "", query: str = "") -> Iterator[Stream]:
    """Read a run's events in the background; leaving the block hangs up."""
    stream = Stream()
    headers = {"Authorization": f"Bearer {who.key}"} | ({"Last-Event-ID": after} if after else {})
    address = f"{service.base_url}/v1/runs/{run_id}/events{query}"
    client = httpx2.Client(**PLAIN, timeout=REQUEST_SECONDS)

    def read() -> None:
        try:
            with client.stream("GET", address, headers=headers) as response:
                stream.response, stream.status = response, response.status_code
                for event in _parsed(response.iter_lines()):
                    stream.events.append(event)
        except (httpx2.HTTPError, RuntimeError):
            pass  # we hung up, or the service died: the events tell which
        finally:
            stream.ended = True

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield stream
    finally:
        if stream.response is not None and not stream.ended:  # closing the client would wait for the reader
            connection = stream.response.extensions["network_stream"].get_extra_info("socket")
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        reader.join(10)
        client.close()


def _parsed(lines: Iterator[str]) -> Iterator[Event]:
    fields: dict[str, str] = {}
    for line in lines:
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(":")
            fields[name] = fields.get(name, "") + value.removeprefix(" ")
        elif fields:
            yield Event(fields.get("id", ""), fields.get("event", "message"), json.loads(fields.get("data") or "{}"))
            fields = {}
