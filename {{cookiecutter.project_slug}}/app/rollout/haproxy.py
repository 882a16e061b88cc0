"""HAProxy by its runtime socket (management guide, section 9.3): weights, drain, and what each server was sent.

Three traps, each seen in a drill: a server is UP right after `state ready`, before any check; a check times out as soon
as its interval is over unless `timeout check` says otherwise; and a server without sessions is what a drain waits for,
not a server without new ones. Gate: deployment.
"""

import csv
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from app.rollout.platform import PlatformFailed

TIMEOUT_S = 5.0
POLL_S = 0.1
PASSED = ("L7OK", "L6OK", "L4OK")  # `check_status` of a check that has run and passed


@dataclass(frozen=True)
class HAProxy:
    socket_path: Path
    backend: str = "app"
    saved_state: Path | None = None  # `server-state-file` of haproxy.cfg: weights survive a reload by it

    def ask(self, command: str) -> str:
        """One command; raises PlatformFailed where HAProxy cannot be reached, or does not know it."""
        try:
            with socket.socket(socket.AF_UNIX) as runtime:
                runtime.settimeout(TIMEOUT_S)
                runtime.connect(str(self.socket_path))
                runtime.sendall(f"{command}\n".encode())
                answer = b"".join(iter(lambda: runtime.recv(65_536), b"")).decode()
        except OSError as error:
            raise PlatformFailed(f"HAProxy does not answer on {self.socket_path}: {error}") from None
        if command.startswith("set ") and answer.strip():
            raise PlatformFailed(f"HAProxy refused `{command}`: {answer.strip()}")
        return answer

    def stat(self, slot: str) -> dict[str, str]:
        """The row of one server in `show stat`."""
        rows = csv.DictReader(self.ask("show stat").removeprefix("# ").splitlines())
        for row in rows:
            if (row["pxname"], row["svname"]) == (self.backend, slot):
                return row
        raise PlatformFailed(f"HAProxy has no server {self.backend}/{slot}: see deploy/compose/haproxy.cfg.")

    def admit(self, slot: str, timeout_s: float) -> None:
        """Weight 0, ready, and a check that has passed since: UP alone says nothing yet."""
        before = self.stat(slot)
        if not (before["status"].startswith("UP") and before["check_status"] in PASSED):
            self.ask(f"set weight {self.backend}/{slot} 0")
            # Down until a check passes: what the last version in this slot was found to be is forgotten.
            self.ask(f"set server {self.backend}/{slot} health down")
            self.ask(f"set server {self.backend}/{slot} state ready")
        self._until(slot, "UP", timeout_s)

    def _until(self, slot: str, status: str, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while True:
            row = self.stat(slot)
            if row["status"].startswith(status) and row["check_status"] in PASSED:
                return
            if time.monotonic() > until:
                told = f"{row['status']}, {row['check_status']} {row['last_chk']}".strip()
                raise PlatformFailed(f"{slot} has passed no check of HAProxy within {timeout_s:g} s: {told}")
            time.sleep(POLL_S)

    def set_weights(self, weights: dict[str, int]) -> None:
        """The largest first, so that at no moment every server has weight 0."""
        for slot, weight in sorted(weights.items(), key=lambda each: -each[1]):
            self.ask(f"set weight {self.backend}/{slot} {weight}")
        self._save()

    def drain(self, slot: str, timeout_s: float) -> int:
        """Wait until no session is open, for `timeout_s` at most; then the server is in maintenance."""
        self.ask(f"set server {self.backend}/{slot} state drain")
        until = time.monotonic() + timeout_s
        while (still_open := int(self.stat(slot)["scur"])) and time.monotonic() < until:
            time.sleep(POLL_S)
        self.ask(f"set server {self.backend}/{slot} state maint")
        self._save()
        return still_open

    def unanswered(self, slot: str) -> int:
        """Connections that failed and responses that were none or broke off, as HAProxy counts them."""
        row = self.stat(slot)
        return int(row["econ"] or 0) + int(row["eresp"] or 0)

    def _save(self) -> None:
        if self.saved_state is not None:
            self.saved_state.write_text(self.ask("show servers state"), encoding="utf-8")
