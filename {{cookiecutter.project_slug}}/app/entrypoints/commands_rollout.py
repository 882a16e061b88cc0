"""The judge of a rollout from the command line, for any pipeline."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from app.entrypoints import commands_rollout_drive as drive
from app.entrypoints.command_context import Json
from app.entrypoints.terminal import err, out, show
from app.errors import RequestInvalid
from app.rollout.judge import NoSuchStage, judge
from app.rollout.observations import Observations, ObservationsInvalid
from app.rollout.rules import RolloutRules
from app.rollout.verdict import Finding, Kind, Verdict
from app.settings import ROOT

EXIT_CODES = {Kind.PROMOTE: 0, Kind.ABORT: 1, Kind.HOLD: 2}  # errors exit 2 as well: who cannot judge holds
COLOURS = {Kind.PROMOTE: "green", Kind.ABORT: "red", Kind.HOLD: "yellow"}

rollout = typer.Typer(no_args_is_help=True, help="Rollouts of a new version.")


@rollout.callback()
def _group() -> None:
    """Rollouts of a new version."""


for _command in (drive.start, drive.status, drive.abort, drive.rollback):
    rollout.command(_command.__name__)(_command)


@rollout.command("judge")
def judge_observations(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON of what both arms did: docs/deployment.md.")],
    config: Annotated[Path, typer.Option(envvar="CONFIG_DIR", help="Folder of rollout.toml.")] = ROOT / "config",
    now: Annotated[str | None, typer.Option(help="The time to judge at, as 2026-11-20T12:00:00Z.")] = None,
    as_json: Json = False,
) -> None:
    """Judge one look at a rollout: exit 0 promote, 1 abort, 2 hold. What cannot be judged exits 2 too."""
    try:
        verdict = judge(RolloutRules.load(config), Observations.read(file), _moment(now))
    except (ObservationsInvalid, NoSuchStage) as error:
        raise RequestInvalid(str(error)) from None
    if as_json:
        print(json.dumps(_document(verdict)))
    else:
        show([_row(finding) for finding in verdict.findings], as_json=False, empty="No metric is compared.")
        out.print(f"{verdict.kind}: {verdict.message}", style=COLOURS[verdict.kind], markup=False, highlight=False)
        if verdict.missing:
            err.print(f"The canary needs about {verdict.missing} more requests.", style="dim", highlight=False)
    raise typer.Exit(EXIT_CODES[verdict.kind])


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RequestInvalid(f"--now: {text} is not a time with its zone, such as 2026-11-20T12:00:00Z.")
    return moment


def _document(verdict: Verdict) -> dict[str, Any]:
    """As JSON has it: a ratio without bound is null."""
    findings = [_finite(asdict(finding)) for finding in verdict.findings]
    return {**asdict(verdict), "missing": verdict.missing, "findings": findings}


def _finite(finding: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value == float("inf") else value for name, value in finding.items()}


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "metric": finding.metric,
        "criticality": str(finding.criticality),
        "outcome": str(finding.outcome),
        "canary": finding.canary,
        "stable": finding.stable,
        "test": finding.test,
        "p": _short(finding.p),
        "effect": _short(finding.effect),
        "at most": _short(finding.upper),
        "margin": _short(finding.margin),
    }


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.3g}"
