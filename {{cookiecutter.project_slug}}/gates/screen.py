"""The scorecard and the progress of proofs, for people at a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from gates.catalogue import ROOT
from gates.configuration import four_eyes_rule
from gates.evidence import Record
from gates.scorecard import LEVELS, Decision, GateScore, Scorecard

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)
STYLE: Mapping[Decision, str] = {
    "GO": "bold green", "CONDITIONAL": "bold yellow", "PAUSED": "bold red", "CANNOT JUDGE": "bold magenta",
}  # fmt: skip
_MARKS = {"PASS": "[green]✔[/]", "N/A": "[dim]-[/]", "SKIP": "[yellow]○[/]", "ERROR": "[magenta]![/]"}


def opening(*, fast: bool, remote: bool) -> None:
    """What is going to happen, for a terminal that shows no bar."""
    how = "over HTTP" if remote else "without the slow ones, about two minutes" if fast else "about three minutes"
    out.print(f"[dim]Running the proofs ({how}); everything they say: .gates/proofs.log[/]")


class Bar:
    def __init__(self, bar: Progress, total: int) -> None:
        self._bar, self._task = bar, bar.add_task("proving", total=total)

    def at(self, cases: int) -> None:
        self._bar.update(self._task, completed=cases)

    def proof(self, record: Record) -> None:
        self._bar.console.print(_line(record), soft_wrap=True)


@contextmanager
def progress(total: int) -> Iterator[Bar]:
    """A bar over the cases that the catalogue asks for, and a line for each proof that ends."""
    columns = (TextColumn("  {task.description}"), BarColumn(24), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True) as bar:
        yield Bar(bar, total)


def _line(record: Record) -> str:
    name = record.proof.rpartition("::test_")[2].replace("_", " ")
    mark = _MARKS.get(record.status, "[red]✘[/]")
    line = f"  {mark} {record.control} {escape(name)} [dim]{record.cases} cases, {record.seconds:.1f} s[/]"
    if record.status in {"PASS", "N/A"}:
        return line
    return (
        f"{line}\n      [red]{record.status}[/] {escape(': '.join(p for p in (record.assertion, record.detail) if p))}"
    )


def show(card: Scorecard, written: Sequence[Path]) -> None:
    out.print()
    out.print(_table(card))
    for score in card.gates:
        _show_gate(score)
    for what, why in card.refused.items():
        out.print(f"  [yellow]does not count:[/] {escape(what)} in attestations.toml: {escape(why)}")
    out.print(f"\n[dim]evidence of {card.subject.shown}[/]")
    out.print(f"[dim]approvals under the four-eyes rule: {escape(four_eyes_rule())} (REQUIRE_DISTINCT_KEY_HOLDERS)[/]")
    out.print("[dim]written: " + ", ".join(str(path.relative_to(ROOT)) for path in written) + "[/]")
    scope = " (these gates only; a launch needs all ten)" if card.restricted else ""
    out.print(f"\n[{STYLE[card.decision]}] {card.decision} [/] {escape(card.reason)}{scope}\n")


def _table(card: Scorecard) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name in ("gate", "level", "needs", "critical", "standard", "advanced", "attested"):
        table.add_column(name, no_wrap=True)
    for score in card.gates:
        style = "green" if score.passes else "yellow" if score.waived_until else "red"
        dots = "●" * score.level + "○" * (5 - score.level)
        said = sum(word.state == "PASS" for word in score.words)
        table.add_row(
            score.gate.name, f"[{style}]{dots} {score.level}[/]", str(score.gate.minimum),
            *(_share(score, weight) for weight in ("critical", "standard", "advanced")), f"{said}/{len(score.words)}",
        )  # fmt: skip
    return table


def _share(score: GateScore, weight: str) -> str:
    of = [verdict for verdict in score.verdicts if verdict.control.weight == weight]
    return f"{sum(verdict.counts for verdict in of)}/{len(of)}" if of else "-"


def _show_gate(score: GateScore) -> None:
    way = f"; the shortest way to {score.gate.minimum}:" if score.missing else ""
    out.print(f"\n[bold]{score.gate.name}[/]: {score.level} {LEVELS[score.level].lower()}{way}")
    # What is red comes first: what was never built or said can wait.
    waiting = {"no proof yet", "nobody has attested it"}
    ordered = sorted(score.missing, key=lambda lack: (lack[1] in waiting, lack[1]))
    for why, lacks in groupby(ordered, key=lambda lack: lack[1]):
        style = "dim" if why in waiting else "red"
        out.print(f"  {' '.join(name for name, _ in lacks)}  [{style}]{escape(why)}[/]", soft_wrap=True)
    out.print(f"  [dim]not proven here: {escape(score.gate.unproven)}[/]", soft_wrap=True)


def show_proofs(records: Sequence[Record]) -> int:
    """Whether every proof that ran held; for CI, where people's attestations are not the question."""
    bad = [record for record in records if record.status not in {"PASS", "N/A"}]
    controls = {record.control for record in records}
    cases = sum(record.cases for record in records)
    if not records:
        out.print("[red]proofs: none ran; these gates have none yet[/]")
        return 1
    if bad and all(record.out_of_time for record in bad):
        out.print(f"[red]proofs: {len(bad)} of {len(records)} ran out of time: nothing can be judged[/]")
        return 2
    if bad:
        out.print(f"[red]proofs: {len(bad)} of {len(records)} do not hold[/]")
        return 1
    out.print(f"proofs: ok ({len(records)} proofs of {len(controls)} controls, {cases} cases)")
    return 0


def show_remote(url: str, records: Sequence[Record]) -> int:
    """What HTTP alone has shown at a deployed service: a part of the evidence, and no score."""
    bad = [record for record in records if record.status != "PASS"]
    out.print(f"\n{escape(url)}: {len(records) - len(bad)} of {len(records)} proofs hold; the rest needs the rig.")
    judged = any(record.status in {"PASS", "FAIL"} for record in records)
    return 2 if not judged else 1 if bad else 0


def cannot_judge(why: str) -> None:
    err.print(f"[{STYLE['CANNOT JUDGE']}] CANNOT JUDGE [/] {escape(why)}")
