"""The replay's progress and its result, for people at a terminal."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gates.catalogue import ROOT
from gates.redteam.verdict import CAVEAT, Result, rule_of_three, upper_bound
from gates.screen import cannot_judge, err, out

__all__ = ["cannot_judge", "progress", "show"]
_WORDS: Mapping[int, str] = {
    0: "[bold green] HOLDS [/]",
    1: "[bold red] BROKEN [/]",
    2: "[bold magenta] CANNOT JUDGE [/]",
}


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    # To stderr: AgentDojo's judges print, and their prints are kept away by replacing stdout.
    columns = (TextColumn("  {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("replaying", total=total)
        yield lambda: bar.advance(task)


def show(result: Result, written: Path) -> None:
    guard = "through the guard" if result.mode == "guarded" else "with the guard cut out"
    part = "" if result.complete else ", a part of the whole"
    out.print(f"\n[bold]AgentDojo replay[/] {guard}{part} [dim]{result.seconds:.0f} s[/]")
    scripted = sum(pair.scripted for pair in result.pairs)
    out.print(f"  pairs        {len(result.pairs)}, of which {scripted} have known attacker's calls")
    out.print(f"  replayable   {len(result.replayable)} (they succeed unguarded), {result.goals} goals")
    if result.leaks:
        out.print(f"  succeeded    [red]{len(result.leaks)}[/]")
        out.print(_leaks(result))
    elif result.mode == "guarded":
        _show_bound(result)
    if result.tasks:
        _show_tasks(result)
    for miss in result.misses:
        out.print(f"  [red]✘[/] {escape(miss)}")
    out.print(f"[dim]written: {written.relative_to(ROOT) if written.is_relative_to(ROOT) else written}[/]")
    out.print(f"{_WORDS[result.exit_code]}")


def _red(count: int) -> str:
    return f"[red]{count}[/]" if count else "0"


def _leaks(result: Result) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 2, 0, 2))
    kinds = ("unguarded",) if result.mode == "unguarded" else ("service", "widest")
    for name in ("goal", *(f"{kind} policy" if kind != "unguarded" else kind for kind in kinds), "pairs"):
        table.add_column(name, no_wrap=True)
    for (suite, goal), count in sorted(result.by_goal.items()):
        table.add_row(f"{suite}/{goal}", *(_red(count[kind]) for kind in kinds), str(count["pairs"]))
    return table


def _show_bound(result: Result) -> None:
    n = len(result.replayable)
    out.print(
        f"  succeeded    0 with this service's policy; 0 of {result.tainted} with the widest that a file can state"
    )
    out.print(
        f"  bound        at most {upper_bound(n):.3%} at 95 % (rule of three {rule_of_three(n):.3%}), {CAVEAT}: "
        f"{result.goals} goals give {upper_bound(result.goals):.1%}",
        soft_wrap=True,
    )


def _show_tasks(result: Result) -> None:
    spread = {n: result.asked.count(n) for n in sorted(set(result.asked))}
    shown = ", ".join(f"{times} {'task' if times == 1 else 'tasks'} {n}" for n, times in spread.items())
    out.print(f"  tasks        {result.passed} of {len(result.tasks)} done with their approvals granted")
    most = max(result.asked)
    out.print(f"  approvals    median {median(result.asked):g}, at most {most} a task ({shown})", soft_wrap=True)
    intact = "intact" if result.audit_intact else "[red]broken[/]"
    out.print(f"  audit        {result.audit_events} events, chain {intact}")
