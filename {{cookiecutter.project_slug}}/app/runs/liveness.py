"""Who this worker is, and taking over from one that died.

The durable engine resumes a process's work only when a process of the same identity starts again.
So each worker takes the lowest free slot, guarded by a lock that dies with its process (a PostgreSQL
session advisory lock, a file lock for SQLite): a replacement gets the dead worker's slot and its
work, and a live worker sweeps up after one that is not replaced. Gate: errors, deployment.
"""

import fcntl
import hashlib
import os
import threading
from pathlib import Path
from typing import Protocol

import psycopg
import structlog
from dbos import DBOS

log = structlog.get_logger(__name__)
SLOTS = 1024
JOIN_SECONDS = 5.0
LOST_IDENTITY = 70  # EX_SOFTWARE: the supervisor starts the process again


class Locks(Protocol):
    def acquire(self, name: str) -> bool: ...
    def release(self, name: str) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


class PostgresLocks:
    """`url` must give a session of its own: a pooler that shares them would drop the lock. See `app.db.sessions`."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(
            url, autocommit=True, keepalives=1, keepalives_idle=5, keepalives_interval=5, keepalives_count=3
        )

    def acquire(self, name: str) -> bool:
        row = self._connection.execute("select pg_try_advisory_lock(%s)", (_number(name),)).fetchone()
        return bool(row and row[0])

    def release(self, name: str) -> None:
        self._connection.execute("select pg_advisory_unlock(%s)", (_number(name),))

    def ping(self) -> None:
        self._connection.execute("select 1")

    def close(self) -> None:
        self._connection.close()


class FileLocks:
    def __init__(self, folder: Path) -> None:
        self._folder, self._held = folder, dict[str, int]()
        folder.mkdir(parents=True, exist_ok=True)

    def acquire(self, name: str) -> bool:
        handle = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._held[name] = handle
        return True

    def release(self, name: str) -> None:
        os.close(self._held.pop(name))

    def ping(self) -> None:
        """A file lock cannot be lost while its process lives."""

    def close(self) -> None:
        for name in list(self._held):
            self.release(name)


class Liveness(threading.Thread):
    def __init__(self, locks: Locks, *, interval_s: float = 5.0) -> None:
        super().__init__(daemon=True, name="liveness")
        self._locks, self._interval, self._stopping = locks, interval_s, threading.Event()
        self._suspects: set[str] = set()
        self._sweeps = threading.Event()
        self._sweeps.set()
        self._sweeping = threading.Lock()
        self.identity = next(name for slot in range(SLOTS) if locks.acquire(name := f"worker-{slot}"))

    def run(self) -> None:
        while not self._stopping.wait(self._interval):
            try:
                self._locks.ping()
            except Exception:  # noqa: BLE001 - any doubt about who we are ends the process
                if self._stopping.is_set():
                    return
                log.critical("liveness.identity_lost")
                os._exit(LOST_IDENTITY)  # another worker may hold the slot already: stop at once
            with self._sweeping:
                try:
                    if self._sweeps.is_set():
                        self._sweep()
                except Exception:
                    log.exception("liveness.sweep_failed")

    def _sweep(self) -> None:
        """Take over the work of every slot found without an owner in two sweeps running."""
        pending = DBOS.list_workflows(status="PENDING", load_input=False, load_output=False)
        owners = {w.executor_id for w in pending if w.executor_id} - {self.identity}
        free = set()
        for owner in sorted(owners):
            if not self._locks.acquire(owner):
                continue
            try:
                if owner in self._suspects:
                    taken = DBOS._recover_pending_workflows([owner])  # noqa: SLF001 - covered by a contract test
                    log.warning("liveness.took_over", owner=owner, workflows=len(taken))
                else:
                    free.add(owner)
            finally:
                self._locks.release(owner)
        self._suspects = free

    def stop_sweeping(self) -> None:
        """Take over no more work, and return once no sweep is under way. The slot stays ours, and guarded."""
        self._sweeps.clear()
        with self._sweeping:
            return

    def stop(self) -> None:
        """Release the slot. Only once nothing of this worker runs any more: another takes its work over at once."""
        self._stopping.set()
        if self.is_alive():
            self.join(JOIN_SECONDS)
        self._locks.release(self.identity)
        self._locks.close()


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"worker:{name}".encode(), digest_size=8).digest(), "big", signed=True)
