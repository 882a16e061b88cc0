"""Gate 6, observability: what is kept long enough goes, from everywhere, and the record of what was done stays."""

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.runs.retention_sweeps import undecided
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import serve
from gates.rig.clock import Clock
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.world import Ran, World, final

WRITER, APPROVER = ["probe_writer", "probe_admin"], ["probe_approver"]
CONTENT_DAYS, SHORT_DAYS = 91, 4  # a day more than config/retention.toml says, and than one tenant asks for
COMMAND_S = 180  # generous: nothing is judged by how long it takes
COMPARED = ("runs", "run_contents", "tool_calls", "approvals", "model_calls", "audit_events", "budget_windows")


@dataclass
class Kept:
    """One finished run, and the words that were in each part of it."""

    owner: Person
    key: str
    words: dict[str, str]
    ran: Ran
    before: dict[str, Any] = field(default_factory=dict)


def _words(*parts: str) -> dict[str, str]:
    return {part: f"{part}-{uuid4().hex}" for part in parts}


def _finished(world: World, owner: Person, approver: Person) -> Kept:
    """A run that read a document, looked something up, wrote with a person's yes, and answered."""
    words, key = _words("document", "lookup", "argument", "answer"), uuid4().hex
    answers = (
        calls("probe_lookup", {"query": words["lookup"]}, f"call_{uuid4().hex[:6]}"),
        calls("probe_write", {"text": words["argument"]}, f"call_{uuid4().hex[:6]}"),
        final(words["answer"]),
    )
    ran = world.start(owner, *answers, documents=[("a.txt", words["document"])], key=key)
    assert world.service.decide(approver, world.question(approver, ran)).status_code == 200
    world.settled(owner, ran)
    kept = Kept(owner, key, words, ran)
    kept.before = world.service.call(owner, "GET", f"/v1/runs/{ran.id}").json()
    assert kept.before["state"] == "succeeded"
    return kept


def _waiting(world: World) -> tuple[Kept, Person]:
    """A run that waits for a person, and who may decide."""
    owner, approver = world.people(WRITER, APPROVER)
    words = _words("document", "argument")
    answers = (calls("probe_write", {"text": words["argument"]}, f"call_{uuid4().hex[:6]}"), final())
    ran = world.start(owner, *answers, documents=[("b.txt", words["document"])])
    world.question(approver, ran)
    return Kept(owner, "", words, ran), approver


def _tables(world: World) -> list[str]:
    """Every table of the service and of its durable engine."""
    if world.owner_url.startswith("sqlite"):
        return [name for (name,) in world.sql("SELECT name FROM sqlite_master WHERE type = 'table'")]
    listed = "SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_schema IN (?, ?)"
    return [name for (name,) in world.sql(listed, "public", "dbos")]


def _rows(world: World, table: str) -> list[str]:
    return sorted(map(repr, world.sql(f"SELECT * FROM {table}")))


def _holding(world: World, words: dict[str, str]) -> list[str]:
    """Where any of the words is still to be found: in a table, or anywhere in SQLite's files."""
    found = [
        f"{table}: {part}"
        for table in _tables(world)
        for row in _rows(world, table)
        for part, word in words.items()
        if word in row
    ]
    if world.owner_url.startswith("sqlite"):
        raw = world.store()
        found += [f"the file: {part}" for part, word in words.items() if word.encode() in raw]
    return found


def _retention(world: World, days: int, *arguments: str) -> dict[str, int]:
    """`app retention run`, as it will be in so many days; the running service does not know of it."""
    future = Clock(world.clock.file.with_name(f"in-{days}-days"))
    future.reset()
    future.advance(timedelta(days=days))
    done = world.command("retention", "run", "--json", *arguments, **{serve.CLOCK: str(future.file)}, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    return {row["kind"]: row["count"] for row in json.loads(done.stdout)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@control("OBS-11", cases=20)
def test_content_goes_when_its_time_is_up_and_its_record_stays(
    proof: Proof, new_world: NewWorld, request: pytest.FixtureRequest, database: str
) -> None:
    new: NewDatabase = request.getfixturevalue("new_sqlite" if database == "sqlite" else "new_postgres")
    with new_world(new()) as world:
        with proof.positive("what a run was about is there until its time is up"):
            waiting, decides = _waiting(world)
            assert _holding(world, waiting.words)
        _untouched(proof, world, waiting, decides)
        mine, approver = world.people(WRITER, APPROVER)
        other, other_approver = world.people(WRITER, APPROVER)
        kept, usual = _finished(world, mine, approver), _finished(world, other, other_approver)
        holding = {place.partition(":")[0].rpartition(".")[2] for place in _holding(world, kept.words)}
        assert holding >= {"run_contents", "runs", "approvals", "operation_outputs"}, holding
        of_trail = [row for row in _rows(world, "audit_events") if any(w in row for w in kept.words.values())]
        proof.same("no-content-in-audit", of_trail, [])
        _shorter(proof, world, kept, usual)
        _dry_run(proof, world)
        deleted = _retention(world, CONTENT_DAYS)
        proof.same("content-gone", deleted.get("content"), 2, "runs of those who did not ask")
        for each in (kept, usual):
            proof.same("content-gone", _holding(world, each.words), [], "left")
            _still_answers(proof, world, each)
        _on_record(proof, world, usual.owner)
        _by_itself(proof, world, mine, approver)
        proof.same("every-table", undecided(), [], "tables that nobody decided about")


def _shorter(proof: Proof, world: World, kept: Kept, usual: Kept) -> None:
    """One tenant's period is shorter, and counts for it alone."""
    [(tenant,)] = world.sql("SELECT name FROM tenants WHERE id = ?", kept.owner.tenant_id)
    agreed = ("--content-days", str(SHORT_DAYS - 1), "--reason", "as agreed")
    done = world.command("retention", "set", str(tenant), *agreed, timeout=COMMAND_S)
    assert done.returncode == 0, done.stderr
    proof.same("per-tenant", _retention(world, SHORT_DAYS).get("content"), 1, "the run of who asked for it")
    proof.same("content-gone", _holding(world, kept.words), [], "left of who asked")
    proof.holds("per-tenant", _holding(world, usual.words), "nothing is left of who did not ask")


def _dry_run(proof: Proof, world: World) -> None:
    before = {table: _rows(world, table) for table in COMPARED}
    due = _retention(world, CONTENT_DAYS, "--dry-run")
    proof.same("dry-run", (due.get("history"), due.get("content")), (2, 2), "due")
    changed = [table for table in COMPARED if _rows(world, table) != before[table]]
    proof.same("dry-run", changed, [], "tables that a dry run changed")


def _still_answers(proof: Proof, world: World, kept: Kept) -> None:
    """The run says how it ended and what it cost, and a repeated request is still that run."""
    after = world.service.call(kept.owner, "GET", f"/v1/runs/{kept.ran.id}").json()
    deleted_at = after.pop("content_deleted_at", None)
    expected = {name: value for name, value in kept.before.items() if name != "content_deleted_at"} | {"output": None}
    proof.same("still-answers", (after, bool(deleted_at)), (expected, True))
    documents = [("a.txt", kept.words["document"])]
    again = world.service.start_run(
        kept.owner, kept.ran.script.task(), feature="probe", documents=documents, key=kept.key
    )
    proof.same("still-answers", again.json().get("id"), kept.ran.id, "the same request with the same key")


def _on_record(proof: Proof, world: World, owner: Person) -> None:
    chain = world.service.call(owner, "GET", "/v1/audit/chain").json()
    proof.holds("audit-stays", chain["intact"] and chain["events"] > 5, chain)
    events = world.service.call(owner, "GET", "/v1/audit?limit=500").json()["items"]
    told = [
        (event["data"]["kind"], event["data"]["count"]) for event in events if event["action"] == "retention.deleted"
    ]
    proof.same("audit-stays", told, [("history", 1), ("content", 1)], "on record")


def _untouched(proof: Proof, world: World, waiting: Kept, approver: Person) -> None:
    """A run that waits for a person has all it needs to go on."""
    proof.same("kept", _retention(world, CONTENT_DAYS), {})
    question = world.question(approver, waiting.ran)
    proof.same("kept", question["arguments"], {"text": waiting.words["argument"]})
    assert world.service.decide(approver, question).status_code == 200
    world.settled(waiting.owner, waiting.ran)
    proof.same("kept", waiting.ran.state["state"], "succeeded")


def _by_itself(proof: Proof, world: World, owner: Person, approver: Person) -> None:
    """Nobody has to start it: the worker does, once a day."""
    kept = _finished(world, owner, approver)
    world.clock.advance(timedelta(days=CONTENT_DAYS))

    def gone() -> bool:
        left = "SELECT count(*) FROM runs WHERE id = ? AND content_deleted_at IS NOT NULL"
        return bool(world.sql(left, kept.ran.id)[0][0])

    proof.soon("by-itself", gone, 120, "nobody started it:")
