"""A wire that can be cut: everything between the service and one dependency passes here, until a proof interferes."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from gates.rig.service import free_ports

Trouble = Literal["", "down", "slow", "garbage", "partial"]
HTTP_GARBAGE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n<html>gateway</html>\n"
Address = tuple[str, int] | str  # host and port, or the path of a socket


class Relay:
    """`trouble`: down refuses connections, slow says nothing more, garbage answers nonsense, partial breaks off."""

    def __init__(self, port: int, garbage: bytes) -> None:
        self.port, self._garbage = port, garbage
        self.upstream: Address = ("127.0.0.1", 9)
        self._trouble: Trouble = ""
        self._lock, self._open, self._ended = threading.Lock(), set[socket.socket](), threading.Event()
        self._listener: socket.socket | None = None
        self._listen()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def trouble(self) -> Trouble:
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: Trouble) -> None:
        """From now on; what is connected is cut off, but for slow, where it goes silent."""
        self._trouble = trouble
        if trouble != "slow":
            self._cut()
        if trouble == "down":
            self._deafen()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        self._ended.set()
        self._deafen()
        self._cut()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _deafen(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in accept
            listener.close()

    def _cut(self) -> None:
        with self._lock:
            for line in self._open:
                with suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._carry, args=(line,), daemon=True).start()

    def _carry(self, near: socket.socket) -> None:
        try:
            far = _connected(self.upstream)
        except OSError:
            near.close()
            return
        with near, far:
            with self._lock:
                self._open |= {near, far}
            try:
                self._pump(near, far)
            except OSError:
                pass
            finally:
                with self._lock:
                    self._open -= {near, far}

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        while not self._ended.is_set():
            readable, _, _ = select.select([near, far], [], [], 0.2)
            if self._trouble == "slow":
                self._ended.wait(0.05)
                continue
            for line in readable:
                if not (piece := line.recv(65_536)):
                    return
                if self._trouble == "garbage":
                    near.sendall(self._garbage)
                    return
                if line is near:
                    far.sendall(piece)
                elif self._trouble == "partial":
                    near.sendall(piece[: len(piece) // 2])
                    return
                else:
                    near.sendall(piece)


def _connected(upstream: Address) -> socket.socket:
    if isinstance(upstream, str):
        line = socket.socket(socket.AF_UNIX)
        line.connect(upstream)
        return line
    return socket.create_connection(upstream, timeout=100)


@contextmanager
def relay(upstream: Address | None = None, *, garbage: bytes = HTTP_GARBAGE) -> Iterator[Relay]:
    """A wire to `upstream`, which may also be set later."""
    [port] = free_ports(1)
    made = Relay(port, garbage)
    if upstream is not None:
        made.upstream = upstream
    try:
        yield made
    finally:
        made.close()
