"""`make rollout-drill`: releases under load on this machine, behind a real HAProxy; every request is counted.

A good release and a rollback must fail no request and cut no stream; a bad one must not be promoted and its traffic be
back within 30 s of the verdict. The last drill ends versions without draining them: it has to fail, or the others
prove nothing.
"""

import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from gates.rig.databases import postgres_databases
from gates.rig.environment import isolate
from gates.rollout.fleet import BAD, GOOD, NEXT, SLOW, Drilled, NoHAProxy, fleet, require_haproxy
from gates.rollout.load import Counts, load

BACK_WITHIN_S = 30.0
out = Console(highlight=False, emoji=False)


@dataclass
class Result:
    name: str
    counts: Counts
    outcome: str = ""
    seconds: float = 0.0
    back_s: float | None = None  # from the verdict to all traffic on the old version
    canary_failed: str = ""
    wrong: list[str] = field(default_factory=list)


def _drill(drilled: Drilled, name: str, *words: str, connections: int, streams: int) -> Result:
    """One command of the operator's under load."""
    began = time.monotonic()
    with load(drilled.url, drilled.user_key, connections=connections, pause_s=1.5, streams=streams) as under:
        time.sleep(2)  # streams are open
        done = drilled.run(*words)
        time.sleep(2)
    result = Result(name, under.counts, seconds=time.monotonic() - began)
    result.outcome = {0: "promoted", 1: "aborted"}.get(done.returncode, f"exit {done.returncode}: {done.stderr[-300:]}")
    number = drilled.record.load().rollout
    events = [line for line in drilled.record.logged() if line["rollout"] == number]
    result.back_s = _back_after(events)
    return result


def _back_after(events: list[dict[str, Any]]) -> float | None:
    times = {line["event"]: datetime.fromisoformat(line["time"]) for line in events}
    if "traffic_back" not in times:
        return None
    return (times["traffic_back"] - times.get("look", times["started"])).total_seconds()


def _must(result: Result, *, ends: str, failed: int | None, cut: int | None) -> Result:
    if result.outcome != ends:
        result.wrong.append(f"{result.outcome} instead of {ends}")
    if failed is not None and result.counts.failures > failed:
        result.wrong.append(f"failed requests: {dict(result.counts.failed)}")
    if cut is not None and result.counts.cut > cut:
        result.wrong.append(f"cut streams: {dict(result.counts.streams_cut)}")
    if not (result.counts.answered and result.counts.streams_whole + result.counts.cut):
        result.wrong.append("no load was on the fleet")
    if ends == "aborted" and (result.back_s is None or result.back_s > BACK_WITHIN_S):
        result.wrong.append(f"the traffic was back {result.back_s} s after the verdict")
    return result


def _drills(folder: Path, database_url: str, database_for_kills: str, connections: int, streams: int) -> list[Result]:
    how = {"connections": connections, "streams": streams}
    results = []
    with fleet(folder / "drains", database_url) as drilled:
        first = drilled.run("start", GOOD)
        if first.returncode:
            raise SystemExit(f"the first version did not come up: {first.stderr}")
        good = _drill(drilled, "good release", "start", NEXT, **how)
        results.append(_must(good, ends="promoted", failed=0, cut=0))
        back = _drill(drilled, "rollback, no stages", "rollback", "--to", GOOD, **how)
        results.append(_must(back, ends="promoted", failed=0, cut=0))
        bad = _drill(drilled, "30 % errors, 2x slower", "start", BAD, **how)
        results.append(_must(bad, ends="aborted", failed=None, cut=None))
        slow = _drill(drilled, "2x slower", "start", SLOW, **how)
        results.append(_must(slow, ends="aborted", failed=0, cut=0))
    with fleet(folder / "kills", database_for_kills, stop="kill", drain_s=0.1) as drilled:
        drilled.run("start", GOOD)
        # As if NEXT had served before: without stages, as the old version is under load until it ends.
        state = drilled.record.load()
        drilled.record.save(state.model_copy(update={"previous": [NEXT]}))
        kills = _drill(drilled, "control: kill, no drain", "rollback", "--to", NEXT, **how)
        if not (kills.counts.failures + kills.counts.cut):
            kills.wrong.append("nothing failed: this drill notices nothing")
        results.append(kills)
    return results


def _show(results: list[Result]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    columns = ("drill", "outcome", "requests", "failed", "streams", "cut", "slowest", "back after", "took", "")
    for name in columns:
        table.add_column(name)
    for each in results:
        counts, back = each.counts, "-" if each.back_s is None else f"{each.back_s:.1f} s"
        row = (each.name, each.outcome, counts.answered, counts.failures, counts.streams_whole + counts.cut, counts.cut,
               f"{counts.slowest_s:.2f} s", back, f"{each.seconds:.0f} s", "; ".join(each.wrong) or "ok")  # fmt: skip
        table.add_row(*map(str, row))
    out.print(table)


def main(
    connections: Annotated[int, typer.Option(help="Users that ask again and again.")] = 50,
    streams: Annotated[int, typer.Option(help="Streams that are open at any time.")] = 20,
) -> None:
    """Drill releases under load; exit 1 where a drill ended otherwise than it must, 2 where it cannot be drilled."""
    isolate()
    try:
        require_haproxy()
    except NoHAProxy as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    with tempfile.TemporaryDirectory(prefix="rollout-") as folder, postgres_databases() as new:
        results = _drills(Path(folder), new(), new(), connections, streams)
    _show(results)
    raise SystemExit(1 if any(each.wrong for each in results) else 0)


if __name__ == "__main__":
    typer.run(main)
