"""The whole replay: every task on its own, and every pair of a task and an attack, with and without the guard."""

import hashlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from app.policy.rules import Policy, Rule
from gates.redteam.dojo import Suite, World, load
from gates.redteam.guarded import GuardedSuite
from gates.redteam.scene import open_scene
from gates.redteam.verdict import PairResult, Result, TaskResult

# All that config/policy.toml could ever allow: whatever is still refused is refused because of what the run has read.
WIDEST = Policy.of((Rule(id="everything", decision="allow", reason="the widest policy that a file can state"),))
Progress = Callable[[], None]
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    suite: Suite
    user: Any
    attack: Any | None = None

    @property
    def name(self) -> str:
        return f"{self.suite.name}/{self.user.ID}/{self.attack.ID if self.attack else '-'}"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()


@dataclass(frozen=True)
class Selection:
    suites: tuple[str, ...] = ()
    every: int = 1

    @property
    def complete(self) -> bool:
        return not self.suites and self.every == 1

    def jobs(self) -> tuple[list[Job], list[Job]]:
        """(tasks, pairs), each thinned out to one in N, always the same ones. Raises NoSuchSuite."""
        suites = load(self.suites)
        tasks = [Job(suite, user) for suite in suites for user in suite.users]
        pairs = [Job(t.suite, t.user, attack) for t in tasks for attack in t.suite.attacks]
        return self._sample(tasks), self._sample(pairs)

    def _sample(self, jobs: list[Job]) -> list[Job]:
        # By digest: in AgentDojo's order a step that divides the number of a suite's attacks plays one of them only.
        chosen = {job.name for job in sorted(jobs, key=lambda job: job.digest)[:: self.every]}
        return [job for job in jobs if job.name in chosen]


@dataclass(frozen=True)
class Guards:
    """Each suite behind the service's own policy and behind the widest one."""

    service: dict[str, GuardedSuite]
    widest: dict[str, GuardedSuite]

    def task(self, job: Job) -> TaskResult:
        passed, record = self.service[job.suite.name].play(job.user, None)
        return TaskResult(job.suite.name, job.user.ID, passed, record.asked)

    def pair(self, job: Job) -> PairResult:
        alone = unguarded(job)
        if not alone.scripted:
            return alone
        guarded, _ = self.service[job.suite.name].play(job.user, job.attack)
        widest, record = self.widest[job.suite.name].play(job.user, job.attack)
        return replace(alone, guarded=guarded, widest=widest if record.had_read else None)


def unguarded(job: Job) -> PairResult:
    """Play one pair with nothing in between: whether the attack works at all."""
    attackers = 0

    def perform(world: World, call: Any, own: bool) -> None:
        nonlocal attackers
        attackers += not own
        world.call(call.function, call.args)

    assert job.attack is not None
    reached = job.suite.play(job.user, job.attack, perform)
    return PairResult(job.suite.name, job.user.ID, job.attack.ID, scripted=attackers > 0, unguarded=reached)


def replay_unguarded(pairs: Sequence[Job], selection: Selection, progress: Progress) -> Result:
    """The same attacks with the guard cut out; it shows that the replay can see one succeed."""
    started = time.monotonic()
    results = list(_each(unguarded, pairs, progress, threading.Event()))
    return Result("unguarded", selection.complete, results, (), 0, True, time.monotonic() - started)


def replay(tasks: Sequence[Job], pairs: Sequence[Job], selection: Selection, progress: Progress) -> tuple[Result, str]:
    """Play everything through the guard; returns the result and the version of the policy that was played.

    Raises Unclassified before anything is played."""
    started = time.monotonic()
    suites = {job.suite.name: job.suite for job in (*tasks, *pairs)}
    with (
        _interrupts() as interrupted,
        tempfile.TemporaryDirectory(prefix="redteam-") as folder,
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_scene(Path(folder))) as scene,
    ):
        policy = scene.runtime.policy
        guards = Guards(
            {name: GuardedSuite.of(suite, scene, policy, portal) for name, suite in suites.items()},
            {name: GuardedSuite.of(suite, scene, WIDEST, portal) for name, suite in suites.items()},
        )
        done = list(_each(guards.task, tasks, progress, interrupted))
        results = list(_each(guards.pair, pairs, progress, interrupted))
        chain = portal.call(scene.audit)
    seconds = time.monotonic() - started
    result = Result("guarded", selection.complete, results, done, chain.events, chain.intact, seconds)
    return result, policy.version


@contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """Ctrl-C as an event: raised in the middle of a call into the portal it leaves a connection's thread behind."""
    event = threading.Event()
    earlier = signal.signal(signal.SIGINT, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, earlier)


def _each(
    play: Callable[[Job], T], jobs: Iterable[Job], progress: Progress, interrupted: threading.Event
) -> Iterator[T]:
    for job in jobs:
        if interrupted.is_set():
            raise KeyboardInterrupt
        yield play(job)
        progress()
