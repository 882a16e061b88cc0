"""Gate 2, access: a role that is lent for a while, by another person, and what is left of it afterwards."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from app.runtime import Runtime
from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig import people
from gates.rig.databases import NewDatabase
from gates.rig.people import Person
from gates.rig.provider import Body, calls
from gates.rig.world import World, final

ASKS = ["elevations:request", "elevations:read", "elevations:end"]
ROLES = {
    "loan_asker": ["runs:read", "runs:write", *ASKS],
    "loan_decider": [
        "runs:read", "keys:write", "members:read", "members:write", "audit:read", "elevations:decide", *ASKS,
    ],
    "loan_watched": ["usage:read"],
}  # fmt: skip
POLICY = """
[[rule]]
id = "watched"
roles = ["loan_watched"]
effects = ["write"]
decision = "deny"
reason = "not while this role is lent"

[[rule]]
id = "reads"
effects = ["read"]
decision = "allow"
reason = "reading changes nothing"

[[rule]]
id = "writes"
effects = ["write"]
decision = "ask"
reason = "a person looks at it"
"""
REASON = "the night shift has nobody else"
FIVE_MINUTES = timedelta(minutes=5, seconds=1)


@dataclass(frozen=True)
class Desk:
    """Asking and deciding as people do it: over HTTP, with a key."""

    world: World

    def call(self, who: Person, method: str, path: str, **options: Any) -> httpx2.Response:
        return self.world.service.call(who, method, path, **options)

    def ask(self, who: Person, role: str = "probe_reader", minutes: int = 5) -> httpx2.Response:
        body = {"role": role, "minutes": minutes, "reason": REASON}
        return self.call(who, "POST", "/v1/elevations", json=body)

    def asked(self, who: Person, role: str = "probe_reader", minutes: int = 5) -> str:
        answer = self.ask(who, role, minutes)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def decide(self, who: Person, elevation: str, decision: str = "approve") -> httpx2.Response:
        body = {"decision": decision, "reason": "seen and agreed"}
        return self.call(who, "POST", f"/v1/elevations/{elevation}/decision", json=body)

    def lent(self, who: Person, decider: Person, role: str = "probe_reader", minutes: int = 5) -> str:
        elevation = self.asked(who, role, minutes)
        answer = self.decide(decider, elevation)
        assert (answer.status_code, answer.json().get("state")) == (200, "lent"), answer.text
        return elevation

    def end(self, who: Person, elevation: str) -> int:
        return self.call(who, "DELETE", f"/v1/elevations/{elevation}").status_code

    def opens(self, who: Person, path: str = "/v1/usage") -> bool:
        """Whether a route that only the lent role gives is open to this key."""
        return self.call(who, "GET", path).status_code == 200

    def state(self, who: Person, elevation: str) -> str:
        items = self.call(who, "GET", "/v1/elevations").json()["items"]
        return str(next(item["state"] for item in items if item["id"] == elevation))

    def records(self, who: Person, elevation: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.call(who, "GET", f"/v1/audit?subject=elevation:{elevation}").json()["items"]
        return sorted(items, key=lambda item: int(item["sequence"]))

    def key(self, issuer: Person, member: Person, **more: Any) -> Person:
        """This member with another key, which that one issued and so has seen."""
        answer = self.call(issuer, "POST", "/v1/keys", json={"member_id": member.member_id, **more})
        assert answer.status_code == 201, answer.text
        return replace(member, key=answer.json()["key"])

    def joined(self, colleague: Person, role: str) -> Person:
        """One more of that tenant, with a key that came from the platform's operator."""

        async def make(runtime: Runtime) -> Person:
            return await people.person(runtime, colleague.tenant_id, [role])

        made: Person = self.world.service.inside(make)
        return made

    def three(self) -> list[Person]:
        """One who asks and two who decide."""
        return self.world.people(["loan_asker"], ["loan_decider"], ["loan_decider"])


@contextmanager
def _desk(new_world: NewWorld, database_url: str = "") -> Iterator[Desk]:
    with new_world(database_url, policy=POLICY, RUN_TIMEOUT_S="3600") as world:
        with (world.config / "roles.toml").open("a") as roles:
            roles.writelines(f"{name} = {json.dumps(granted)}\n" for name, granted in ROLES.items())
        world.service.stop()
        world.service.start()
        yield Desk(world)


def _everything(proof: Proof, desk: Desk) -> None:
    _by_another_person(proof, desk)
    _two_persons(proof, desk)
    _foreign(proof, desk)
    _expires(proof, desk)
    _in_mid_run(proof, desk)
    _nothing_lasting(proof, desk)
    _this_credential_alone(proof, desk)
    _rules_for_the_role(proof, desk)
    _ends_early(proof, desk)
    _decided_once(proof, desk)


def _by_another_person(proof: Proof, desk: Desk) -> None:
    asker, decider, other = desk.three()
    with proof.positive("asked for, and approved by a second person, the role opens its routes and its tools"):
        elevation = desk.lent(asker, decider)
        assert desk.opens(asker)
        ran = desk.world.run(asker, calls("probe_lookup", {"query": "a"}), final())
        assert [effect.tool for effect in desk.world.effects_of(ran)] == ["probe_lookup"]
        members = {m["id"]: m for m in desk.call(other, "GET", "/v1/members").json()["items"]}
        assert members[asker.member_id]["elevated_role"] == "probe_reader"
    _on_record(proof, desk, asker, decider, elevation)
    asker, decider, other = desk.three()
    elevation = desk.asked(asker)
    proof.holds("before-approval", not desk.opens(asker), "asked, and nobody has decided")
    proof.same("before-approval", desk.ask(asker, "probe_writer").status_code, 409, "a second question at once:")
    proof.same("before-approval", desk.decide(decider, elevation, "refuse").json()["state"], "refused")
    proof.holds("before-approval", not desk.opens(asker), "the question was refused")
    proof.same("once", desk.decide(other, elevation).status_code, 409, "refused, then approved by another:")
    proof.holds("once", not desk.opens(asker), "refused, then approved by another")
    elevation = desk.asked(asker)
    desk.world.clock.advance(timedelta(minutes=61))
    proof.same("before-approval", desk.decide(decider, elevation).status_code, 409, "approved after an hour:")
    proof.holds("before-approval", not desk.opens(asker), "approved after an hour")
    proof.same("before-approval", desk.state(asker, elevation), "expired")
    desk.asked(asker)  # and may ask anew
    desk.world.clock.reset()


def _on_record(proof: Proof, desk: Desk, asker: Person, decider: Person, elevation: str) -> None:
    """Who asked for what and why, who decided, until when, who ended it: in the tenant's unbroken trail."""
    assert desk.end(asker, elevation) == 204
    told = desk.records(decider, elevation)
    expected = [("elevation.asked", asker), ("elevation.decided", decider), ("elevation.ended", asker)]
    seen = [(record["action"], record["actor"]) for record in told]
    proof.same("on-record", seen, [(action, who.member_id) for action, who in expected])
    for record in told:
        proof.same("on-record", record["data"]["member"], asker.member_id, record["action"])
        proof.same("on-record", record["data"]["role"], "probe_reader", record["action"])
    proof.same("on-record", told[1]["data"]["four_eyes"], "distinct possible holders")
    proof.same("on-record", (told[0]["data"]["minutes"], told[0]["data"]["reason"]), (5, REASON))
    proof.holds("on-record", told[1]["data"]["decision"] == "lent" and told[1]["data"]["ends_at"], told[1]["data"])
    proof.same("on-record", desk.call(decider, "GET", "/v1/audit/chain").json()["intact"], True)


def _two_persons(proof: Proof, desk: Desk) -> None:
    """Nobody plays both parts: not as themselves, and not by a key that they have had in their hands."""
    asker, decider, other = desk.three()
    elevation = desk.asked(decider)
    proof.same("not-own", desk.decide(decider, elevation).status_code, 403)
    proof.holds("not-own", not desk.opens(decider), "lent to who decided")
    denied = [
        (r["actor"], r["data"]["needs"]) for r in desk.records(other, elevation) if r["action"] == "access.denied"
    ]
    proof.same("not-own", denied, [(decider.member_id, "another person")])
    issued = desk.key(decider, other)
    rotated = desk.call(decider, "POST", f"/v1/keys/{other.principal.key_id}/rotation", json={}).json()["key"]
    laundered = desk.call(issued, "POST", f"/v1/keys/{other.principal.key_id}/rotation", json={}).json()["key"]
    for what, puppet in {
        "a key that the asker issued": issued,
        "a key issued with a key that the asker issued": desk.key(issued, other),
        "a key that the asker rotated": replace(other, key=rotated),
        "a key rotated with a key that the asker issued": replace(other, key=laundered),
    }.items():
        proof.same("key-in-hand", desk.decide(puppet, elevation).status_code, 403, f"decided with {what}:")
        proof.holds("key-in-hand", not desk.opens(decider), f"decided with {what}")
    assert desk.decide(other, elevation).status_code == 200  # with a key of their own, the same person may
    puppet = desk.key(decider, asker)
    elevation = desk.asked(puppet)
    proof.same("key-in-hand", desk.decide(decider, elevation).status_code, 403, "asked with a key of the decider's:")
    proof.holds("key-in-hand", not desk.opens(puppet), "asked with a key of the decider's")
    third = desk.key(decider, other)
    proof.same("key-in-hand", desk.decide(third, elevation).status_code, 403, "a third one has had both keys:")
    desk.world.sql("UPDATE api_keys SET hands = NULL WHERE id = ?", other.principal.key_id)
    proof.same("key-in-hand", desk.decide(other, elevation).status_code, 403, "decided with a key of unknown origin:")
    assert desk.end(puppet, elevation) == 204
    desk.world.sql("UPDATE api_keys SET hands = NULL WHERE id = ?", asker.principal.key_id)
    proof.same("key-in-hand", desk.ask(asker).status_code, 403, "asked with a key of unknown origin:")


def _foreign(proof: Proof, desk: Desk) -> None:
    (asker, decider, _), (stranger, foreign, _) = desk.three(), desk.three()
    elevation = desk.asked(asker)
    for who in (foreign, stranger):
        for method, end, body in (
            ("POST", "/decision", {"decision": "approve", "reason": "mine"}),
            ("DELETE", "", None),
        ):
            answers = [
                desk.call(who, method, f"/v1/elevations/{one}{end}", json=body) for one in (elevation, str(uuid4()))
            ]
            told = [(a.status_code, {n: v for n, v in a.json().items() if n != "request_id"}) for a in answers]
            proof.same("foreign", told[0], told[1], f"{method} {end}")
            proof.holds("foreign", told[0][0] in {403, 404}, told[0][0])
        proof.holds("foreign", elevation not in desk.call(who, "GET", "/v1/elevations").text, "it is listed")
    proof.same("foreign", desk.state(decider, elevation), "asked")
    colleague = desk.joined(asker, "loan_asker")
    proof.same("foreign", desk.end(colleague, elevation), 404, "ended by another who only asks:")
    proof.holds("foreign", elevation not in desk.call(colleague, "GET", "/v1/elevations").text, "listed for such a one")


def _expires(proof: Proof, desk: Desk) -> None:
    asker, decider, _ = desk.three()
    elevation = desk.lent(asker, decider)
    desk.world.clock.advance(timedelta(minutes=4))
    assert desk.opens(asker)
    desk.world.clock.advance(FIVE_MINUTES - timedelta(minutes=4))
    proof.holds("expires", not desk.opens(asker), "after its minutes the same key still has the role")
    proof.same("expires", desk.state(asker, elevation), "expired")
    [shown] = [m for m in desk.call(decider, "GET", "/v1/members").json()["items"] if m["id"] == asker.member_id]
    proof.same("expires", (shown["elevated_role"], shown["elevated_until"]), (None, None))
    desk.world.clock.reset()
    for minutes in (0, 4, 61, 600):
        proof.same("expires", desk.ask(asker, minutes=minutes).status_code, 422, f"for {minutes} minutes:")


def _in_mid_run(proof: Proof, desk: Desk) -> None:
    """A run that goes on when the loan is over loses what it gave, at the next call."""
    asker, decider, _ = desk.three()
    desk.lent(asker, decider)

    def over(_: Body) -> Any:
        desk.world.clock.advance(FIVE_MINUTES)
        return calls("probe_lookup", {"query": "after"}, "call_after")

    ran = desk.world.run(asker, calls("probe_lookup", {"query": "before"}), over, final())
    desk.world.clock.reset()
    seen = [effect.arguments["query"] for effect in desk.world.effects_of(ran)]
    proof.same("expires", (ran.state["state"], seen), ("succeeded", ["before"]), "in the middle of a run:")


def _nothing_lasting(proof: Proof, desk: Desk) -> None:
    """What would still be there afterwards a loan does not give: keys, members, caps, other loans, the platform."""
    asker, decider, other = desk.three()
    elevation = desk.lent(asker, decider, "probe_admin")
    assert desk.opens(asker, "/v1/audit")
    open_question = desk.asked(other)
    for method, path, body in (
        ("POST", "/v1/keys", {"member_id": asker.member_id}),
        ("DELETE", f"/v1/keys/{other.principal.key_id}", None),
        ("POST", "/v1/members", {"name": uuid4().hex, "roles": ["probe_admin"]}),
        ("PATCH", f"/v1/members/{other.member_id}", {"roles": ["probe_nothing"]}),
        ("PUT", "/v1/budgets", {"scope": "tenant", "limit_usd": "1"}),
    ):
        proof.same("nothing-lasting", desk.call(asker, method, path, json=body).status_code, 403, f"{method} {path}")
    assert desk.end(asker, elevation) == 204
    elevation = desk.lent(asker, decider, "loan_decider")
    proof.same("nothing-lasting", desk.decide(asker, open_question).status_code, 403, "to decide is lent:")
    proof.holds(
        "nothing-lasting", open_question not in desk.call(asker, "GET", "/v1/elevations").text, "others' listed"
    )
    assert desk.end(asker, elevation) == 204
    proof.same("nothing-lasting", desk.ask(asker, "platform_operator").status_code, 403, "a platform's role:")
    # What a key with scopes may give is measured by what it has for good.
    narrow = desk.key(other, decider, scopes=["members:write", "usage:read", *ASKS])
    desk.lent(narrow, desk.joined(decider, "loan_decider"), "loan_watched")
    assert desk.opens(narrow)
    made = desk.call(narrow, "POST", "/v1/members", json={"name": uuid4().hex, "roles": ["loan_watched"]})
    proof.same("nothing-lasting", made.status_code, 403, "a lent permission is given away:")


def _this_credential_alone(proof: Proof, desk: Desk) -> None:
    asker, decider, other = desk.three()
    desk.lent(asker, decider)
    assert desk.opens(asker)
    proof.holds(
        "one-credential", not desk.opens(desk.key(decider, asker)), "the decider's key for the asker has it too"
    )
    proof.holds("one-credential", not desk.opens(desk.key(other, asker)), "another key of the asker's has it too")
    asker, decider, other = desk.three()
    narrow = desk.key(other, asker, scopes=["runs:read", *ASKS])
    desk.lent(narrow, decider)
    proof.holds("one-credential", not desk.opens(narrow), "a key with scopes got beyond them")


def _rules_for_the_role(proof: Proof, desk: Desk) -> None:
    """What the policy says about a role, it says about those it is lent to."""
    writer, decider = desk.world.people(["probe_writer", "loan_asker"], ["loan_decider"])
    write = calls("probe_write", {"text": "x"})
    ran = desk.world.run(writer, write, final(), until=("waiting", "succeeded"))
    assert ran.state["state"] == "waiting"
    elevation = desk.lent(writer, decider, "loan_watched")
    ran = desk.world.run(writer, write, final(), until=("waiting", "succeeded"))
    proof.same("policy", ran.state["state"], "succeeded", "a write under a role whose writes are denied:")
    proof.same("policy", desk.world.effects_of(ran), [])
    desk.end(writer, elevation)
    ran = desk.world.run(writer, write, final(), until=("waiting", "succeeded"))
    proof.same("policy", ran.state["state"], "waiting", "and once it is over:")


def _ends_early(proof: Proof, desk: Desk) -> None:
    changes: dict[str, list[dict[str, Any]]] = {
        "other roles": [{"roles": ["loan_asker", "probe_starter"]}],
        "shut out and let in again": [{"disabled": True}, {"disabled": False}],
    }
    for what, change in changes.items():
        asker, decider, other = desk.three()
        elevation = desk.lent(asker, decider)
        question = desk.asked(other)
        for body in change:
            for member in (asker, other):
                changed = desk.call(decider, "PATCH", f"/v1/members/{member.member_id}", json=body)
                assert changed.status_code == 200
        proof.holds("ended", not desk.opens(asker), f"{what}, and the loan goes on")
        proof.same("ended", desk.records(decider, elevation)[-1]["action"], "elevation.ended", what)
        proof.same("ended", desk.ask(asker).status_code, 201, f"{what}; the loan is over, so one may ask:")
        proof.same("ended", desk.decide(decider, question).status_code, 409, f"{what}, with an open question:")
    for who in ("asker", "decider"):
        asker, decider, other = desk.three()
        elevation = desk.lent(asker, decider)
        assert desk.end(asker if who == "asker" else other, elevation) == 204
        proof.holds("ended", not desk.opens(asker), f"ended by the {who}")
        proof.same("ended", desk.state(asker, elevation), "ended")
    asker, decider, _ = desk.three()
    question = desk.asked(asker)
    desk.world.sql("UPDATE members SET roles = ? WHERE id = ?", '["probe_starter"]', asker.member_id)
    proof.same("ended", desk.decide(decider, question).status_code, 409, "lent to one who may no longer ask:")
    asker, decider, _ = desk.three()
    elevation = desk.lent(asker, decider)
    name = desk.world.sql("SELECT name FROM tenants WHERE id = ?", asker.tenant_id)[0][0]
    for verb in ("disable", "enable"):
        assert desk.world.command("members", verb, asker.name, "--tenant", str(name)).returncode == 0
    proof.holds("ended", not desk.opens(asker), "shut out and let in by the platform's operator")


def _decided_once(proof: Proof, desk: Desk) -> None:
    asker, *deciders = desk.world.people(["loan_asker"], *([["loan_decider"]] * 6))
    elevation = desk.asked(asker)
    decisions = ["approve", "refuse"] * 3
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda who, what: desk.decide(who, elevation, what), deciders, decisions))
    proof.same("once", Counter(a.status_code for a in answers), Counter({200: 1, 409: 5}), "six decisions at once:")
    [won] = [answer.json() for answer in answers if answer.status_code == 200]
    proof.same("once", desk.state(asker, elevation), won["state"])
    proof.same("once", desk.opens(asker), won["state"] == "lent")
    told = [
        record["actor"] for record in desk.records(deciders[0], elevation) if record["action"] == "elevation.decided"
    ]
    proof.same("once", told, [won["decided_by"]], "decisions on record:")
    [other, *_] = desk.three()
    with ThreadPoolExecutor(4) as pool:
        statuses = Counter(pool.map(lambda _: desk.ask(other).status_code, range(4)))
    proof.same("once", statuses, Counter({201: 1, 409: 3}), "four questions at once:")


@pytest.mark.timeout(2_000)
@control("AUT-13", cases=91)
def test_a_lent_role_takes_two_persons_and_ends_by_itself(proof: Proof, new_world: NewWorld) -> None:
    with _desk(new_world) as desk:
        _everything(proof, desk)


@pytest.mark.timeout(2_000)
@control("AUT-13", cases=91, slow=True)
def test_a_lent_role_takes_two_persons_and_ends_by_itself_on_postgresql(
    proof: Proof, new_world: NewWorld, new_postgres: NewDatabase
) -> None:
    with _desk(new_world, new_postgres()) as desk:
        _everything(proof, desk)
