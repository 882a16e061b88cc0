"""What a rollout has to remember: its state, a log of every change, and a lock, in one folder. Gate: deployment.

The state is replaced as a whole, so that a driver killed at any moment leaves one that the next can go on from.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.rollout.counters import Counters
from app.rollout.releases import check_binding

KEPT = 3  # digests that served before: a rollback to one of them takes no steps
ABORT = "abort-requested"


class RolloutBusy(Exception):
    """Another driver is at work on this fleet."""


class StateUnreadable(Exception):
    """The state file is not one of a rollout."""


class Phase(StrEnum):
    """Where a rollout is; in order."""

    IDLE = "idle"
    STARTING = "starting"
    STAGE = "stage"
    FINISHING = "finishing"  # the new version has all traffic, the old one drains
    ABORTING = "aborting"  # the old version has all traffic, the new one drains


class Version(BaseModel):
    model_config = ConfigDict(frozen=True)

    slot: str
    digest: str


class ArmState(BaseModel):
    """What was collected of one version since the stage began."""

    last: Counters | None = None  # the last reading
    seen: Counters = Counters()  # since the stage began
    unanswered_before: int = 0  # by the load balancer's account, when the stage began
    unanswered: int = 0
    read_at: datetime | None = None
    began: datetime | None = None
    costs_usd: list[float] = Field(default_factory=list)
    latencies_ms: list[float] = Field(default_factory=list)  # of synthetic requests
    golden_passed: int = 0
    golden_total: int = 0


class State(BaseModel):
    """`stable` serves; `canary` is on its way in or out; `previous` served before, the newest first."""

    phase: Phase = Phase.IDLE
    stable: Version | None = None
    canary: Version | None = None
    previous: list[str] = Field(default_factory=list)
    bindings: dict[str, str] = Field(default_factory=dict)  # digest by release, of all that were rolled out here
    rollout: int = 0  # number of the rollout
    kind: str = "rollout"  # or rollback
    staged: bool = True
    began: datetime | None = None
    stage: int = 0
    look: int = 0
    stage_began: datetime | None = None
    seen_before: list[str] = Field(default_factory=list)
    arms: dict[str, ArmState] = Field(default_factory=dict)
    reason: str = ""
    looks: list[dict[str, Any]] = Field(default_factory=list)  # verdicts, for the report

    def bind(self, release: str, digest: str) -> None:
        """From the next save on, for good. Raises BindingConflict."""
        check_binding(self.bindings, release, digest)
        self.bindings[release] = digest


class Record:
    """The folder of one fleet's rollouts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state, self._log = folder / "state.json", folder / "deploys.jsonl"

    def load(self) -> State:
        """Raises StateUnreadable."""
        if not self._state.exists():
            return State()
        try:
            return State.model_validate_json(self._state.read_text(encoding="utf-8"))
        except ValidationError as error:
            raise StateUnreadable(f"{self._state} is not the state of a rollout: {error.errors()[0]['msg']}") from None

    def save(self, state: State) -> None:
        """Replace the state; it survives a crash of the machine once this returns."""
        replace(self._state, state.model_dump_json(indent=1))

    def log(self, event: str, at: datetime, state: State, **more: Any) -> None:
        """Append one line to the deploy log."""
        version = state.canary or state.stable
        line = {
            "time": at.isoformat(), "rollout": state.rollout, "kind": state.kind, "event": event,
            "digest": version.digest if version else None, "slot": version.slot if version else None, **more,
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(line) + "\n")
            log.flush()
            os.fsync(log.fileno())

    def logged(self) -> list[dict[str, Any]]:
        """Every line of the deploy log; one that a crash cut off is left out."""
        lines = self._log.read_text(encoding="utf-8").splitlines(keepends=True) if self._log.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}\n")]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One driver at a time: the lock ends with its process, however that ends. Raises RolloutBusy."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                told = f"Another rollout of this fleet is at work ({self.folder}): see app rollout status."
                raise RolloutBusy(told) from None
            yield

    def request_abort(self, reason: str) -> None:
        """For the driver that has the lock: it looks for this several times a minute."""
        replace(self.folder / ABORT, reason)

    def abort_requested(self) -> str:
        """Why the rollout should be aborted; empty where nobody asked."""
        file = self.folder / ABORT
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def forget_abort(self) -> None:
        (self.folder / ABORT).unlink(missing_ok=True)


def replace(file: Path, text: str) -> None:
    """Write a file so that a reader sees the old content or the new one, also after a crash."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_name(f"{file.name}.new")
    with new.open("w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fsync(handle.fileno())
    new.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
