"""AgentDojo's suites and tasks (Debenedetti et al., 2024), and the only module that imports it."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from agentdojo.task_suite.load_suites import get_suites
    from agentdojo.types import text_content_block_from_string

BENCHMARK = "v1.2.2"
Perform = Callable[["World", Any, bool], None]  # (world, the call, whether it is the user's own)


class NoSuchSuite(LookupError):
    """AgentDojo has no suite of this name; the message lists those it has."""


@dataclass(frozen=True)
class World:
    """One AgentDojo environment and what has really been done in it, whatever anyone says was done."""

    functions: Any
    environment: Any
    done: list[str]

    def call(self, name: str, arguments: dict[str, Any]) -> tuple[Any, str | None]:
        """Run one function; returns (result, error)."""
        self.done.append(name)
        result, error = self.functions.run_function(self.environment, name, arguments)
        return result, error


@dataclass(frozen=True)
class Suite:
    name: str
    inner: Any

    @property
    def users(self) -> Sequence[Any]:
        return list(self.inner.user_tasks.values())

    @property
    def attacks(self) -> Sequence[Any]:
        return list(self.inner.injection_tasks.values())

    @property
    def functions(self) -> Sequence[Any]:
        return list(self.inner.tools)

    @cached_property
    def _environment(self) -> Any:
        return self.inner.load_and_inject_default_environment({})

    def play(self, user: Any, attack: Any | None, perform: Perform) -> bool:
        """Play one task, or one pair, in a fresh environment; AgentDojo judges whether its goal was reached.

        Of a pair the goal is the attacker's: asking about the user's as well takes most of the time."""
        fresh = self._environment.model_copy(deep=True)  # reading the YAML again takes 300 times as long
        judged = user
        if attack is not None:
            judged, fresh = attack, user.init_environment(fresh)
        with _quiet():
            reached, _ = self.inner.run_task_with_pipeline(
                _Script(user, attack, perform), judged, None, injections={}, environment=fresh
            )
        return bool(reached)


@dataclass(frozen=True)
class _Script:
    """A model that an injection has taken over: it makes the user's calls and then the attacker's.

    AgentDojo judges some goals by the calls made, so only those that really ran are told."""

    user: Any
    attack: Any | None
    perform: Perform

    def query(
        self, query: str, runtime: Any, env: Any, messages: Sequence[Any] = (), extra_args: Any = None
    ) -> tuple[str, Any, Any, list[Any], Any]:
        world, said = World(runtime, env, []), list(messages)
        for task, own in ((self.user, True), (self.attack, False)):
            for call in ground_truth(task, env):
                before = len(world.done)
                self.perform(world, call, own)
                if len(world.done) > before:
                    said.append(_says("", [call]))
        said.append(_says(self.user.GROUND_TRUTH_OUTPUT or "done", None))
        return query, runtime, env, said, extra_args or {}


def ground_truth(task: Any | None, environment: Any) -> Sequence[Any]:
    """The calls that reach a task's goal from here; none where AgentDojo knows none."""
    return () if task is None else list(task.ground_truth(environment))


def load(names: Sequence[str] = ()) -> list[Suite]:
    """The suites of these names, all without any. Raises NoSuchSuite."""
    found = get_suites(BENCHMARK)
    if missing := sorted(set(names) - set(found)):
        raise NoSuchSuite(f"no suite {', '.join(missing)}: choose from {', '.join(found)}")
    return [Suite(name, inner) for name, inner in found.items() if not names or name in names]


def _says(text: str, calls: Sequence[Any] | None) -> dict[str, Any]:
    return {"role": "assistant", "content": [text_content_block_from_string(text)], "tool_calls": calls}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Some of AgentDojo's judges print and warn."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
