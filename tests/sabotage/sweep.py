"""The sabotage sweep: each control is cut out of a copy of a service, and its proof must notice for the named reason.

    python -m tests.sabotage.sweep                          all patches
    python -m tests.sabotage.sweep SEC-02                   the patches of one control, or one patch
    python -m tests.sabotage.sweep --changed                those whose kill is stale
    python -m tests.sabotage.sweep --every 20 --limit 600   what CI tries: see plan.py
    python -m tests.sabotage.sweep --release                tries nothing; red if any kill is stale

Results are written to gates/sabotage.json as the sweep goes on; what it holds of patches that were not tried stays. A
stale entry is listed, and is an error only with --release. A patch that survives is an error.

One service is rendered and set up. Its proofs must all hold as it is, since a proof that fails anyway notices
nothing. Then each patch goes into a copy of its own, and the proofs of its control run there. A planted proof that is
always green must be reported as one that noticed nothing: else the sweep fails, since it would miss real ones too.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from tests.sabotage import plan, record
from tests.sabotage.patches import FOLDER, PatchInvalid, chosen, load
from tests.sabotage.plan import Planned
from tests.sabotage.record import Caught
from tests.sabotage.trial import Result, attempt, baseline, ready

JOBS = 3  # a proof mostly waits for its service
KEPT_AFTER = 10  # results: a sweep that is ended half way has lost no more than these
out = Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def main(  # noqa: PLR0913, PLR0917 - one for each option
    wanted: Annotated[str, typer.Argument(help="A control such as SEC-02, or one patch; all without it.")] = "",
    every: Annotated[
        int, typer.Option(min=1, help="As CI: touched controls, every Nth patch drawn by the commit, what is stale.")
    ] = 1,
    limit: Annotated[int, typer.Option(min=0, help="Seconds after which no other patch is started; 0: no limit.")] = 0,
    base: Annotated[str, typer.Option(help="The revision that the change is compared with.")] = "HEAD~1",
    changed: Annotated[bool, typer.Option(help="Only patches whose kill is stale.")] = False,
    release: Annotated[bool, typer.Option(help="Try nothing; fail if any kill is stale.")] = False,
) -> None:
    """Cut controls out of a service, and require that their proofs notice."""
    try:
        with tempfile.TemporaryDirectory(prefix="sabotage-") as folder:
            workshop = Path(folder)
            workshop.chmod(0o755)
            sweep = _Sweep(workshop)
            if release:
                raise SystemExit(sweep.release())
            raise SystemExit(sweep.part(every, limit, base) if every > 1 else sweep.whole(wanted, limit, changed))
    except PatchInvalid as error:
        out.print(f"[red]{error}[/]")
        raise SystemExit(2) from None


class _Sweep:
    """One rendered service, the patches as they were when it was rendered, and what the record says of them."""

    renewed = False  # whether the record changed

    def __init__(self, workshop: Path) -> None:
        self.workshop = workshop
        # Copies: whoever works in this folder meanwhile changes neither what is tried nor what is recorded.
        folder = Path(shutil.copytree(FOLDER, workshop / "patches"))
        self.patches, [self.hollow] = load(folder), load(folder / "planted")
        self.project = ready(workshop)
        self.stale = record.stale(self.project, self.patches)

    def release(self) -> int:
        """Red while anything is stale, or a control that has a proof has no sabotage that was caught."""
        why = {name: ", ".join(changed) for name, changed in self.stale.items()} | record.unproven(self.project)
        for name, told in why.items():
            out.print(f"  [red]{name}[/] [dim]{told}[/]", soft_wrap=True)
        out.print(f"{len(self.stale)} of {len(self.patches)} sabotages are stale.")
        if why:
            out.print(
                "[red]Nothing is released on a stale record: make sabotage CHANGED=1, and commit what it writes.[/]"
            )
        return int(bool(why))

    def whole(self, wanted: str, limit: int, changed: bool) -> int:
        """All patches, those of a control, or of these what is stale; the untouched service must hold first."""
        tried = [p for p in chosen(self.patches, wanted) if not changed or p.name in self.stale]
        if not tried:
            out.print("Nothing to try: what the record says is of this very code.")
            return 0
        ran, broken = baseline(self.project, sorted({patch.control for patch in tried}))
        out.print(ran)
        if broken:
            out.print(f"[red]The untouched service does not hold:[/]\n{broken}")
            return 1
        return self._try([Planned(patch, "") for patch in tried], limit, strict=True)

    def part(self, every: int, limit: int, base: str) -> int:
        """What CI tries, after `make test` has proven the service as it is."""
        touched = plan.touched_controls(self.patches, self.stale, plan.changed_files(base))
        tried = plan.planned(self.patches, self.stale, touched, every=every, lot=plan.head())
        out.print(f"{len(self.stale)} of {len(self.patches)} sabotages are stale; {len(tried)} are to be tried.")
        return self._try(tried, limit, strict=False)

    def _try(self, tried: Sequence[Planned], limit: int, *, strict: bool) -> int:
        if tried and not self._planted():
            out.print("[red]A planted proof that is always green was not reported: this sweep shows nothing.[/]")
            return 1
        results = self._results(tried, limit)
        _show(results)
        if self.renewed:
            out.print("gates/sabotage.json was renewed: commit it.")
        self._left({each.patch.name for each in results if each.verdict != "NOT JUDGED"})
        lost = [each for each in results if each.verdict != "caught" and (strict or each.verdict != "NOT JUDGED")]
        unstarted = len(tried) - len(results)
        if unstarted:
            out.print(f"{unstarted} were not started: the time was up.")
        return int(bool(lost) or (strict and unstarted > 0))

    def _results(self, tried: Sequence[Planned], limit: int) -> list[Result]:
        """The results of those that were started before the time was up, in the order in which they end."""
        until = time.monotonic() + limit if limit else float("inf")

        def try_in_time(each: Planned) -> Result | None:
            over = each.bounded and time.monotonic() > until
            return None if over else attempt(self.project, self.workshop, [each.patch])

        results: list[Result] = []
        kept = 0
        with ThreadPoolExecutor(JOBS) as pool:
            started = {pool.submit(try_in_time, each): each for each in tried}
            try:
                for future in as_completed(started):
                    each, result = started[future], future.result()
                    if result is None:
                        continue
                    results.append(result)
                    mark = "[green]✔[/]" if result.verdict == "caught" else "[red]✘[/]"
                    told = " ".join(filter(None, [f"{result.verdict}, {result.seconds:.0f} s", each.why, result.told]))
                    out.print(f"  {mark} {result.patch.name} [dim]{told}[/]")
                    if len(results) - kept == KEPT_AFTER:
                        self._keep(results[kept:])
                        kept = len(results)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # what is under way ends; nothing else is started
                raise
        self._keep(results[kept:])
        return results

    def _keep(self, results: Sequence[Result]) -> None:
        """Put into the record what was caught; take out what was not."""
        caught = [Caught(each.patch, each.proofs) for each in results if each.verdict == "caught"]
        lost = [each.patch.name for each in results if each.verdict not in {"caught", "NOT JUDGED"}]
        if caught or lost:
            self.renewed |= record.renew(self.project, caught, lost, self.patches)

    def _planted(self) -> bool:
        """Cut a control and gut its proof as well: an honest sweep says that nobody noticed."""
        same = (self.hollow.control, self.hollow.assertion)
        cut = next(patch for patch in self.patches if (patch.control, patch.assertion) == same)
        return attempt(self.project, self.workshop, [self.hollow, cut]).verdict == "SURVIVED"

    def _left(self, settled: set[str]) -> None:
        """List what stays stale: for another run, and before a release."""
        left = {name: changed for name, changed in self.stale.items() if name not in settled}
        for name, changed in left.items():
            out.print(f"  [yellow]stale[/] {name} [dim]{', '.join(changed)}[/]", soft_wrap=True)
        if left:
            out.print(f"{len(left)} sabotages stay stale: the scorecard does not count them as caught.")


def _show(results: Sequence[Result]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("id", "patch", "assertion", "verdict", "seconds", "cuts"):
        table.add_column(name, justify="right" if name == "seconds" else "left")
    for result in results:
        patch, style = result.patch, "green" if result.verdict == "caught" else "bold red"
        verdict = f"[{style}]{result.verdict}[/]"
        table.add_row(patch.control, patch.name, patch.assertion, verdict, f"{result.seconds:.0f}", patch.cuts)
    out.print(table)
    for result in results:
        if result.verdict != "caught":
            out.print(f"[red]{result.patch.name}: {result.verdict}[/] {result.told}", soft_wrap=True)
    caught = sum(result.verdict == "caught" for result in results)
    controls = len({result.patch.control for result in results})
    out.print(f"{caught} of {len(results)} sabotages of {controls} controls were caught for their named reason.")


if __name__ == "__main__":
    typer.run(main)
