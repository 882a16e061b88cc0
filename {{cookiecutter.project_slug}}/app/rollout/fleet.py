"""A fleet behind HAProxy whose versions are started and ended by commands: `deploy/compose/fleet.toml`.

The commands are data: `docker compose` on a server, plain processes in a drill. Gate: deployment.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx2
from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.config_files import read_toml
from app.rollout.counters import Counters, ScrapeFailed
from app.rollout.haproxy import HAProxy
from app.rollout.platform import SLOTS, GoldenCases, Patience, PlatformFailed

PROBE_S = 3.0
COMMAND_S = 900.0


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Slot(_Data):
    app: str  # where the version itself answers, past the load balancer
    operations: str  # its operations port


class Balancer(_Data):
    socket: Path
    backend: str = "app"
    saved_state: Path | None = None


class Commands(_Data):
    """Each is a list of words, without a shell. SLOT, DIGEST, BLUE_DIGEST and GREEN_DIGEST are in its environment."""

    start: tuple[str, ...] = Field(min_length=1)
    stop: tuple[str, ...] = Field(min_length=1)
    golden_cases: tuple[str, ...] = Field(min_length=1)  # prints what `app evals run --json` prints
    incident: tuple[str, ...] = ()  # after an abort; REASON and REPORT are in its environment


class Times(_Data):
    healthy_s: float = Field(default=180, gt=0)
    drain_s: float = Field(default=120, gt=0)
    scrape_every_s: float = Field(default=5, gt=0)


class Fleet(_Data):
    """The file; relative paths and commands start in its folder."""

    state: Path = Path("rollouts")
    releases: Path = Path("releases.toml")
    haproxy: Balancer
    slots: dict[str, Slot]
    commands: Commands
    times: Times = Times()

    @model_validator(mode="after")
    def _two_slots(self) -> Self:
        if set(self.slots) != set(SLOTS):
            raise ValueError(f"slots: {' and '.join(SLOTS)} are needed, and no others")
        return self

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises SettingsInvalid."""
        fleet = read_toml(path, cls, "description of a fleet")
        home = path.resolve().parent
        saved = fleet.haproxy.saved_state
        balancer = fleet.haproxy.model_copy(
            update={"socket": home / fleet.haproxy.socket, "saved_state": home / saved if saved else None}
        )
        return fleet.model_copy(
            update={"state": home / fleet.state, "releases": home / fleet.releases, "haproxy": balancer}
        )

    @property
    def patience(self) -> Patience:
        return Patience(**self.times.model_dump())


@dataclass(frozen=True)
class HAProxyPlatform:
    """A Platform: HAProxy for the traffic, commands for the versions, HTTP for their health and metrics."""

    fleet: Fleet
    home: Path  # where commands run
    http: httpx2.Client

    @property
    def balancer(self) -> HAProxy:
        file = self.fleet.haproxy
        return HAProxy(file.socket, file.backend, file.saved_state)

    def start(self, slot: str, digest: str) -> None:
        self._run(self.fleet.commands.start, SLOT=slot, DIGEST=digest)

    def is_healthy(self, slot: str) -> bool:
        try:
            return self.http.get(f"{self.fleet.slots[slot].app}/readyz", timeout=PROBE_S).status_code == 200
        except httpx2.HTTPError:
            return False

    def admit(self, slot: str, timeout_s: float) -> None:
        self.balancer.admit(slot, timeout_s)

    def set_weights(self, weights: dict[str, int]) -> None:
        self.balancer.set_weights(weights)

    def drain(self, slot: str, timeout_s: float) -> int:
        return self.balancer.drain(slot, timeout_s)

    def stop(self, slot: str) -> None:
        self._run(self.fleet.commands.stop, SLOT=slot)

    def scrape(self, slot: str) -> Counters:
        try:
            answer = self.http.get(f"{self.fleet.slots[slot].operations}/metrics", timeout=PROBE_S)
        except httpx2.HTTPError as error:
            raise ScrapeFailed(f"the operations port does not answer: {type(error).__name__}") from None
        if answer.status_code != 200:
            raise ScrapeFailed(f"the operations port answers {answer.status_code}")
        return Counters.parse(answer.text)

    def unanswered(self, slot: str) -> int:
        return self.balancer.unanswered(slot)

    def golden_cases(self, slot: str, digest: str) -> GoldenCases:
        """A floor that is missed makes the command exit 1; its report counts all the same."""
        told = self._run(self.fleet.commands.golden_cases, exits=(0, 1), SLOT=slot, DIGEST=digest)
        try:
            cases = [case for report in json.loads(told) for case in report["cases"]]
            failed = tuple(str(case["name"]) for case in cases if not all(case["checks"].values()))
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PlatformFailed(f"the golden cases of {slot} printed no report of evaluations") from None
        return GoldenCases(len(cases) - len(failed), len(cases), failed)

    def _run(self, command: tuple[str, ...], exits: tuple[int, ...] = (0,), **given: str) -> str:
        return run(command, self.home, exits, **given)


def run(command: tuple[str, ...], home: Path, exits: tuple[int, ...] = (0,), **given: str) -> str:
    """What the command printed. Raises PlatformFailed where it cannot be run, or exits otherwise than expected."""
    try:
        # S603: the words are the operator's own file, and no shell reads them.
        done = subprocess.run(  # noqa: S603
            command, cwd=home, env={**os.environ, **given}, capture_output=True, text=True, timeout=COMMAND_S,
            check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PlatformFailed(f"`{' '.join(command)}` could not be run: {error}") from None
    if done.returncode not in exits:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise PlatformFailed(f"`{' '.join(command)}` exited {done.returncode}: {last[0]}")
    return done.stdout
