"""Rolling a version out, or back, from the command line: the driver of app/rollout on this machine's fleet.

Gate: deployment.
"""

import json
import os
import re
import ssl
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar

import httpx2
import structlog
import typer

from app.entrypoints import revisions
from app.entrypoints.command_context import Because, DryRun, Json, operator
from app.entrypoints.terminal import err, out, show
from app.errors import RequestInvalid
from app.rollout import report
from app.rollout.driver import Driver, RolloutRefused
from app.rollout.fleet import Fleet, HAProxyPlatform, run
from app.rollout.platform import PlatformFailed
from app.rollout.record import Phase, Record, RolloutBusy, State, StateUnreadable
from app.rollout.releases import BindingConflict, Releases, check_binding
from app.rollout.rules import RolloutRules
from app.rollout.synthetic import SyntheticTraffic
from app.settings import ROOT

log = structlog.get_logger(__name__)
KEY = "ROLLOUT_KEY"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
Result = TypeVar("Result")
FleetFile = Annotated[Path, typer.Option("--fleet", envvar="ROLLOUT_FLEET", help="What runs where.")]
Config = Annotated[Path, typer.Option("--config", envvar="CONFIG_DIR", help="Folder of rollout.toml.")]
FLEET, CONFIG = ROOT / "deploy" / "compose" / "fleet.toml", ROOT / "config"


def start(
    digest: Annotated[str, typer.Argument(help="The image, by digest.")],
    release: Annotated[str | None, typer.Option(help="Which release of releases.toml it is: its version.")] = None,
    fleet: FleetFile = FLEET,
    config: Config = CONFIG,
    as_json: Json = False,
) -> None:
    """Bring a version in, stage by stage, or go on with it: exit 0 promoted, 1 aborted, 2 refused."""
    file = Fleet.load(fleet)
    state, releases = _known(file)
    if release is not None:
        releases = _with(releases, release, digest)
    elif releases.of(digest) is None:
        raise RequestInvalid(
            f"{digest} is not in {file.releases.name} and was not rolled out here: name its release, with --release "
            f"VERSION. {_last(releases)}"
        )
    if state.stable and (why := releases.unreadable(digest, state.stable.digest, _ancestors)):
        raise RequestInvalid(f"Not rolled out, because there would be no way back: {why}")
    _roll_out(file, fleet, config, digest, as_json=as_json, release=release)


def _known(file: Fleet) -> tuple[State, Releases]:
    """What is under way, and every release with the digest that it has in the file or was rolled out as."""
    releases, state = Releases.load(file.releases), _explained(Record(file.state).load)
    return state, _explained(lambda: releases.bound(state.bindings))


def _with(releases: Releases, release: str, digest: str) -> Releases:
    """As they are once this digest is that release. Raises RequestInvalid where it cannot be."""
    if releases.named(release) is None:
        raise RequestInvalid(
            f"{releases.path.name} has no release {release}: add it with its rollback_to, and commit that. "
            f"{_last(releases)}"
        )
    if not DIGEST.fullmatch(digest):
        raise RequestInvalid(f"{digest} is not the digest of an image: sha256: and 64 hexadecimal digits.")
    _explained(lambda: check_binding(releases.bindings, release, digest))
    return releases.bound({release: digest})


def _last(releases: Releases) -> str:
    return f"The last releases: {', '.join(each.release for each in releases.releases[-3:]) or 'none yet'}."


def rollback(
    to: Annotated[str | None, typer.Option("--to", help="A release or digest; else what releases.toml names.")] = None,
    fleet: FleetFile = FLEET,
    config: Config = CONFIG,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Bring an earlier version back by the same path; one of the last three needs no stages. Exits as start does."""
    file = Fleet.load(fleet)
    state, releases = _known(file)
    if state.stable is None:
        raise RequestInvalid("Nothing serves here, so there is nothing to roll back.")
    if state.phase is not Phase.IDLE and state.kind != "rollback":
        raise RequestInvalid("A rollout is under way: end it first, with app rollout abort.")
    target = _target(releases, to, state.stable.digest)
    if why := releases.unreadable(state.stable.digest, target, _ancestors):
        raise RequestInvalid(f"Not rolled back: {why}")
    steps = "at once" if target in state.previous else "stage by stage"
    if dry_run:
        show([{"from": state.stable.digest, "to": target, "how": steps}], as_json=as_json, empty="")
        return
    _roll_out(file, fleet, config, target, as_json=as_json, kind="rollback", staged=target not in state.previous)


def _target(releases: Releases, to: str | None, serves: str) -> str:
    """The digest to go back to."""
    target = releases.named(to) if to else releases.rollback_target(serves)
    if target is None and to:
        return to
    if target is None:
        raise RequestInvalid(f"{releases.path.name} names no rollback_to for {serves}: give --to RELEASE or DIGEST.")
    if target.digest is None:
        raise RequestInvalid(f"Release {target.release} was never rolled out here: give --to another one.")
    return target.digest


def abort(reason: Because = "", fleet: FleetFile = FLEET, config: Config = CONFIG) -> None:
    """End the rollout that is under way: all traffic back to the version that serves."""
    file = Fleet.load(fleet)
    record, told = Record(file.state), f"aborted by {operator()}: {reason or 'no reason given'}"
    with httpx2.Client() as http:
        try:
            _explained(lambda: _driver(file, fleet, config, http, quiet=False).abort(told))
        except Busy:
            record.request_abort(told)
            out.print("The driver at work was asked to abort; app rollout status says what it does.", highlight=False)
            return
    out.print("Aborted: the version that served has all traffic.", highlight=False)


def status(fleet: FleetFile = FLEET, as_json: Json = False) -> None:
    """What serves, what is on its way in, and what served before."""
    file = Fleet.load(fleet)
    state = _explained(Record(file.state).load)
    last = state.looks[-1] if state.looks else {}
    row = {
        "phase": str(state.phase),
        "kind": state.kind,
        "serves": state.stable.digest if state.stable else None,
        "canary": state.canary.digest if state.canary else None,
        "stage": state.stage or None,
        "look": state.look or None,
        "verdict": last.get("kind"),
        "reason": state.reason or last.get("message") or None,
        "previous": state.previous,
    }
    show([row], as_json=as_json, empty="")


class Busy(RequestInvalid):
    """Another driver has the lock."""


def _explained(work: Callable[[], Result]) -> Result:
    """What stops a driver, as the sentence that the command line prints."""
    try:
        return work()
    except RolloutBusy as error:
        raise Busy(str(error)) from None
    except (RolloutRefused, StateUnreadable, BindingConflict) as error:
        raise RequestInvalid(str(error)) from None
    except PlatformFailed as error:
        raise RequestInvalid(f"{error}. The state is kept: run the same command again.") from None


def _roll_out(file: Fleet, path: Path, config: Path, digest: str, *, as_json: bool, **how: Any) -> None:
    with httpx2.Client(verify=ssl.create_default_context()) as http:
        driver = _driver(file, path, config, http, quiet=as_json)
        state = _explained(lambda: driver.roll_out(digest, **how))
    page = report.write(driver.record, state)
    if as_json:
        print(json.dumps({**report.document(driver.record, state), "report": str(page)}))
    else:
        ended = f"aborted: {state.reason}" if state.reason else f"promoted: {digest} serves"
        out.print(ended, style="red" if state.reason else "green", markup=False, highlight=False)
        err.print(f"Report: {page}", style="dim", markup=False, highlight=False)
    raise typer.Exit(1 if state.reason else 0)


def _driver(file: Fleet, path: Path, config: Path, http: httpx2.Client, *, quiet: bool) -> Driver:
    record, home = Record(file.state), path.resolve().parent
    addresses = {slot: each.app for slot, each in file.slots.items()}

    def incident(state: State) -> None:
        opened = report.open_incident(record, state, datetime.now(UTC).isoformat(timespec="seconds"))
        page = report.write(record, state)
        if file.commands.incident:
            try:
                run(file.commands.incident, home, REASON=state.reason, REPORT=str(page), INCIDENT=str(opened))
            except PlatformFailed as error:  # the traffic is back, and the file is there
                log.warning("rollout.incident_command_failed", detail=str(error))

    return Driver(
        platform=HAProxyPlatform(file, home, http),
        traffic=SyntheticTraffic(http, addresses, _key()),
        rules=RolloutRules.load(config),
        record=record,
        patience=file.patience,
        told=(lambda _: None) if quiet else lambda text: err.print(text, style="dim", markup=False, highlight=False),
        incident=incident,
    )


def _key() -> str:
    if key := os.environ.get(KEY):
        return key
    raise RequestInvalid(f"{KEY} is not set: an API key of the canary tenant, whose role has chat:write.")


def _ancestors(of: Collection[str]) -> frozenset[str]:
    try:
        return revisions.ancestors(ROOT / "migrations", of)
    except (ValueError, SyntaxError) as error:
        raise RequestInvalid(f"releases.toml: schema: {error}.") from None
