"""Evaluations from the command line and in CI."""

import asyncio
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from app.bootstrap import open_runtime
from app.entrypoints import schema
from app.entrypoints.command_context import Json
from app.entrypoints.terminal import err, out
from app.errors import RequestInvalid
from app.evals.runner import EvalReport, run_evals
from app.features import FEATURES
from app.settings import load_settings, sqlite_url

evals = typer.Typer(no_args_is_help=True, help="Evaluation sets of the features.")


@evals.callback()
def _group() -> None:
    """Evaluation sets of the features."""


@evals.command("run")
def run(
    feature: Annotated[str | None, typer.Option(help="Only this feature.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Ask MODEL_PROVIDER, which costs money.")] = False,
    as_json: Json = False,
) -> None:
    """Run the evaluation sets on a scratch database, with the offline model; exit 1 when a floor is missed."""
    names = [f.name for f in FEATURES if f.evals]
    if feature and feature not in names:
        raise RequestInvalid(f"No evaluation set for {feature}: choose from {', '.join(names)}.")
    with tempfile.TemporaryDirectory() as folder:
        reports = asyncio.run(_reports(folder, feature, live=live, quiet=as_json))
    if as_json:
        print(json.dumps([{**asdict(r), "ok": r.ok} for r in reports]))
    else:
        for report in reports:
            _show(report)
    if not all(report.ok for report in reports):
        raise typer.Exit(1)


async def _reports(folder: str, only: str | None, *, live: bool, quiet: bool) -> list[EvalReport]:
    asked = {} if live else {"model_provider": "offline"}  # money is spent by whoever says so, on each run
    settings = load_settings(database_url=sqlite_url(Path(folder) / "evals.db"), environment="test", **asked)
    schema.migrate(settings)
    chosen = [f for f in FEATURES if f.evals and only in {None, f.name}]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    async with open_runtime(settings, durable=False) as runtime:
        with Progress(*columns, console=err, disable=quiet or not err.is_terminal) as progress:
            reports = []
            for feature in chosen:
                task = progress.add_task(f"evaluating {feature.name}", total=None)
                reports.append(await run_evals(runtime, feature, lambda task=task: progress.advance(task)))  # type: ignore[misc]
            return reports


def _show(report: EvalReport) -> None:
    out.print(
        f"{report.feature}: {len(report.cases)} cases, dataset {report.dataset_version} ({report.dataset_hash}), "
        f"model {report.model}, prompt {report.prompt_version}, policy {report.policy_version}",
        highlight=False,
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("check", "passed", "rate", "95 % interval", "floor", ""):
        table.add_column(name)
    for score in report.scores:
        low, high = score.interval
        verdict = "[green]ok[/]" if score.ok else "[red]below[/]"
        passed = f"{score.passed}/{score.total}"
        table.add_row(
            score.name, passed, f"{score.rate:.2f}", f"{low:.2f} to {high:.2f}", f"{score.floor:.2f}", verdict
        )
    out.print(table)
    if report.too_few:
        out.print("Fewer cases than thresholds.toml demands.", style="red")
    for case, why in report.failures:
        out.print(f"  {case}: {why}", style="red", markup=False)
    if report.model.startswith("offline"):
        out.print("The offline model was evaluated: this proves the harness and the guards, not answers.", style="dim")
        out.print("Your own is asked with --live (make evals LIVE=1); it costs money.", style="dim")
