"""Gate 1, security: one person with several keys is not several persons.

An admin can make members and issue or rotate anybody's keys. Whoever may hold the asker's key does not decide.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.provider import calls
from gates.rig.service import wait_for
from gates.rig.world import Ran, World, final

HOLDERS, MEMBERS = "distinct possible holders", "distinct members only"
WRITER_ADMIN, APPROVER_ADMIN = ["probe_writer", "probe_admin"], ["probe_approver", "probe_admin"]
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')


@dataclass(frozen=True)
class Desk:
    """Keys as an admin hands them out, and decisions as people take them: over HTTP."""

    world: World

    def call(self, who: Person, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.world.service.call(who, method, path, **options)

    def made(self, admin: Person, role: str) -> Person:
        """A member whom this admin made, with the key that the admin issued and has seen."""
        answer = self.call(admin, "POST", "/v1/members", json={"name": f"made-{uuid4().hex[:12]}", "roles": [role]})
        assert answer.status_code == 201, answer.text
        return self.key(admin, replace(admin, member_id=answer.json()["id"]))

    def key(self, issuer: Person, member: Person) -> Person:
        """The member, with a key that this one issued."""
        answer = self.call(issuer, "POST", "/v1/keys", json={"member_id": member.member_id})
        assert answer.status_code == 201, answer.text
        return replace(member, key=answer.json()["key"])

    def rotated(self, who: Person, member: Person, overlap_hours: int = 24) -> Person:
        """The member, with a key that this one made by rotating theirs."""
        path = f"/v1/keys/{member.principal.key_id}/rotation"
        answer = self.call(who, "POST", path, json={"overlap_hours": overlap_hours})
        assert answer.status_code == 201, answer.text
        return replace(member, key=answer.json()["key"])

    def asked(self, who: Person, *texts: str) -> Ran:
        """A run that waits for the approval of its first write; one write after the other."""
        script = [calls("probe_write", {"text": text}, f"call_{n}") for n, text in enumerate(texts or ("hello",))]
        return self.world.run(who, *script, final(), until=("waiting",))

    def decided(self, who: Person, ran: Ran, decision: str = "approve") -> httpx2.Response:
        return self.world.service.decide(who, self.world.question(who, ran), decision)

    def rules(self, admin: Person, ran: Ran) -> list[tuple[str, str | None]]:
        """Every decision about this run in the audit trail, with the rule that held, oldest first."""
        items = self.call(admin, "GET", f"/v1/audit?subject=run:{ran.id}").json()["items"]
        decided = [item for item in items if item["action"] in {"approval.approved", "approval.denied"}]
        ordered = sorted(decided, key=lambda item: int(item["sequence"]))
        return [(item["action"], item["data"].get("four_eyes")) for item in ordered]


def _refused(proof: Proof, desk: Desk, who: Person, ran: Ran, what: str) -> None:
    """This one may neither approve nor decline, and the question stays open."""
    question = desk.world.question(who, ran)
    for decision in ("approve", "deny"):
        answer = desk.world.service.decide(who, question, decision)
        proof.same("key-in-hand", (answer.status_code, answer.json().get("code")), (403, "auth.forbidden"), what)
        proof.holds("key-in-hand", "app keys issue" in answer.json()["detail"], "the refusal does not say what to do")
    proof.same("key-in-hand", [one["id"] for one in desk.world.service.pending(who, ran.id)], [question["id"]], what)
    proof.same("key-in-hand", desk.world.effects_of(ran), [], what)


Sides = Callable[[Desk, Person, Person], tuple[Person, Person]]


def _by_one_admin(desk: Desk, _asker: Person, decider: Person) -> tuple[Person, Person]:
    return desk.made(decider, "probe_writer"), desk.made(decider, "probe_approver")


def _by_an_issued_admin(desk: Desk, asker: Person, decider: Person) -> tuple[Person, Person]:
    return asker, desk.key(desk.key(asker, decider), decider)


def _rotated_by_an_issued_admin(desk: Desk, asker: Person, decider: Person) -> tuple[Person, Person]:
    return asker, desk.rotated(desk.key(asker, decider), decider)


# Who asks and who decides, of an asker and a decider who are admins as well.
ONE_PERSON: dict[str, Sides] = {
    "one admin made both": _by_one_admin,
    "the asker issued the decider's key": lambda desk, asker, decider: (asker, desk.key(asker, decider)),
    "the asker rotated the decider's key": lambda desk, asker, decider: (asker, desk.rotated(asker, decider)),
    "the decider issued the asker's key": lambda desk, asker, decider: (desk.key(decider, asker), decider),
    "the decider rotated the asker's key": lambda desk, asker, decider: (desk.rotated(decider, asker), decider),
    "the decider's key was issued with a key that the asker issued": _by_an_issued_admin,
    "the decider's key was rotated with a key that the asker issued": _rotated_by_an_issued_admin,
}


@pytest.mark.timeout(2_000)
@control("SEC-02", cases=42)
def test_who_may_hold_the_askers_key_does_not_decide(proof: Proof, world: World) -> None:
    desk = Desk(world)
    asker, decider = world.people(WRITER_ADMIN, APPROVER_ADMIN)
    with proof.positive("two persons, with keys that nobody else has seen, ask and approve; the rule is on record"):
        ran = desk.asked(asker)
        shown = desk.decided(decider, ran).json()
        assert (shown["state"], shown["four_eyes_rule"]) == ("approved", HOLDERS)
        assert (shown["requested_by_name"], shown["decided_by_name"]) == (asker.name, decider.name)
        world.settled(asker, ran)
        assert len(world.effects_of(ran)) == 1
        assert desk.rules(asker, ran) == [("approval.approved", HOLDERS)]
    for what, sides in ONE_PERSON.items():
        asks, decides = sides(desk, *world.people(WRITER_ADMIN, APPROVER_ADMIN))
        _refused(proof, desk, decides, desk.asked(asks), f"{what}:")


@pytest.mark.timeout(2_000)
@control("SEC-02", cases=24)
def test_what_counts_is_the_key_that_asked(proof: Proof, world: World) -> None:
    desk = Desk(world)
    asker, approver = world.people(["probe_writer"], ["probe_approver"])
    with proof.positive("two persons ask and decline"):
        ran = desk.asked(asker)
        assert desk.decided(approver, ran, "deny").json()["four_eyes_rule"] == HOLDERS
    _later(proof, desk)
    _unknown_origin(proof, desk)
    _other_ways_in(proof, desk)


def _later(proof: Proof, desk: Desk) -> None:
    """What is on record is the credential that asked, whatever has become of it, and in every segment of the run."""
    asker, decider = desk.world.people(WRITER_ADMIN, APPROVER_ADMIN)
    issued = desk.key(decider, asker)
    ran = desk.asked(issued)
    [(key_id,)] = desk.world.sql("SELECT key_id FROM runs WHERE id = ?", ran.id)
    answer = desk.call(asker, "POST", f"/v1/keys/{key_id}/rotation", json={"overlap_hours": 0})
    assert answer.status_code == 201, answer.text
    _refused(proof, desk, decider, ran, "the asker's key was rotated after the run started:")
    asker, decider, third = desk.world.people(WRITER_ADMIN, APPROVER_ADMIN, ["probe_approver"])
    ran = desk.asked(desk.key(decider, asker), "first", "second")
    assert desk.decided(third, ran).status_code == 200
    wait_for(lambda: desk.world.service.pending(third, ran.id) and len(desk.world.effects_of(ran)) == 1)
    again = desk.decided(decider, ran)
    proof.same("key-in-hand", again.status_code, 403, "the second question of a resumed run:")
    proof.same("key-in-hand", len(desk.world.effects_of(ran)), 1, "the second question of a resumed run:")


def _unknown_origin(proof: Proof, desk: Desk) -> None:
    """Of a key from before issuers were on record nobody knows who holds it."""
    for side in ("asker", "decider"):
        asker, decider = desk.world.people(WRITER_ADMIN, APPROVER_ADMIN)
        key_id = (asker if side == "asker" else decider).principal.key_id
        desk.world.sql("UPDATE api_keys SET hands = NULL WHERE id = ?", key_id)
        _refused(proof, desk, decider, desk.asked(asker), f"the {side}'s key is of unknown origin:")


def _other_ways_in(proof: Proof, desk: Desk) -> None:
    """Decisions in one request, and in the console, are the same decisions."""
    asker, decider = desk.world.people(WRITER_ADMIN, APPROVER_ADMIN)
    puppet, ran = desk.key(asker, decider), desk.asked(asker)
    question = desk.world.question(puppet, ran)
    item = {"id": question["id"], "decision": "approve", "digest": question["digest"], "reason": "me again"}
    [told] = desk.call(puppet, "POST", "/v1/approvals/decisions", json={"items": [item]}).json()["items"]
    proof.same("key-in-hand", (told["state"], told["error"]), (None, "auth.forbidden"), "with others in one request:")
    with httpx2.Client(base_url=desk.world.service.base_url, **PLAIN, follow_redirects=True) as browser:
        page = browser.post("/console/sign-in", data={"key": puppet.key}).text
        shown = f"decision:{question['id']}" in page
        proof.same("key-in-hand", (shown, asker.name in page), (False, True), "a choice in the console, a name:")
        token = _CSRF.search(page)
        form = {f"decision:{question['id']}": "approve", f"digest:{question['id']}": question["digest"]}
        browser.post("/console/approvals", data={**form, "csrf": token[1] if token else "", "reason": "me again"})
    proof.same("key-in-hand", len(desk.world.service.pending(puppet, ran.id)), 1, "in the console:")
    proof.same("key-in-hand", desk.world.effects_of(ran), [], "in one request and in the console:")


@control("SEC-02", cases=6)
def test_where_members_alone_are_told_apart_the_record_says_so(proof: Proof, new_world: NewWorld) -> None:
    with new_world(REQUIRE_DISTINCT_KEY_HOLDERS="false") as world:
        desk = Desk(world)
        [admin] = world.people(["probe_admin"])
        writer, approver = desk.made(admin, "probe_writer"), desk.made(admin, "probe_approver")
        with proof.positive("an approver decides with a key of the admin who issued the asker's as well"):
            ran = desk.asked(writer)
            answer = desk.decided(approver, ran)
            assert answer.status_code == 200, answer.text
        proof.same("key-in-hand", answer.json()["four_eyes_rule"], MEMBERS, "the approval says:")
        world.settled(writer, ran)
        proof.same("key-in-hand", desk.rules(admin, ran), [("approval.approved", MEMBERS)], "the audit trail says:")
        asker, decider = world.people(["probe_writer"], APPROVER_ADMIN)
        ran = desk.asked(asker)
        proof.same("key-in-hand", desk.decided(decider, ran).json()["four_eyes_rule"], HOLDERS, "with keys apart:")
        [both] = world.people(["probe_writer", "probe_approver", "probe_admin"])
        ran = desk.asked(both)
        other_key = desk.key(both, both)
        for who, what in ((both, "with the same key"), (other_key, "with another key of their own")):
            proof.same("not-own", desk.decided(who, ran).status_code, 403, f"{what}:")
        proof.same("not-own", world.effects_of(ran), [])


@control("SEC-02", cases=4)
def test_one_request_with_several_decisions_decides_each_alone(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    desk = Desk(world)
    with proof.positive("two approvals in one request"):
        runs = [desk.asked(writer), desk.asked(writer)]
        _decide_together(desk, approver, runs, ["approve", "approve"])
        assert [len(world.effects_of(world.settled(writer, ran))) for ran in runs] == [1, 1]
    for choices, effects in ((["approve", "deny"], [1, 0]), (["deny", "approve"], [0, 1])):
        runs = [desk.asked(writer, "one"), desk.asked(writer, "two")]
        states = _decide_together(desk, approver, runs, choices)
        expected = [{"approve": "approved", "deny": "denied"}[choice] for choice in choices]
        proof.same("arguments-bound", states, expected, f"{choices}:")
        seen = [len(world.effects_of(world.settled(writer, ran))) for ran in runs]
        proof.same("arguments-bound", seen, effects, f"{choices}:")


def _decide_together(desk: Desk, who: Person, runs: list[Ran], choices: list[str]) -> list[str]:
    questions = [desk.world.question(who, ran) for ran in runs]
    items = [
        {"id": question["id"], "decision": choice, "digest": question["digest"], "reason": "looked at"}
        for question, choice in zip(questions, choices, strict=True)
    ]
    answer = desk.call(who, "POST", "/v1/approvals/decisions", json={"items": items})
    assert answer.status_code == 200, answer.text
    return [item["state"] for item in answer.json()["items"]]


@control("SEC-02", cases=3)
def test_what_a_person_declined_is_not_asked_again_under_another_id(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    desk = Desk(world)
    with proof.positive("after a no, another call is a question of its own"):
        ran = desk.asked(writer, "no", "yes")
        assert desk.decided(approver, ran, "deny").status_code == 200
        other = wait_for(lambda: world.service.pending(approver, ran.id))[0]
        assert world.service.decide(approver, other).status_code == 200
        world.settled(writer, ran)
        assert [effect.arguments["text"] for effect in world.effects_of(ran)] == ["yes"]
    ran = desk.asked(writer, "same", "same")
    assert desk.decided(approver, ran, "deny").status_code == 200
    wait_for(lambda: len(ran.script.seen) >= 2 and (world.service.pending(approver, ran.id) or _ended(world, ran)))
    asked = world.sql("SELECT COUNT(*) FROM approvals WHERE run_id = ?", ran.id)[0][0]
    proof.same("declined-stays-declined", asked, 1, "questions about the same call:")
    proof.same("declined-stays-declined", world.settled(writer, ran).state["state"], "succeeded")
    proof.same("declined-stays-declined", world.effects_of(ran), [])


def _ended(world: World, ran: Ran) -> bool:
    [(state,)] = world.sql("SELECT state FROM runs WHERE id = ?", ran.id)
    return state in {"succeeded", "failed"}
