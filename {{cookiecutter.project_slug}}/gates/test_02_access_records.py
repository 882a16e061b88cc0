"""Gate 2, access: what is put on record about those who knock, and what they can learn from the answers."""

import json
import random
import statistics
import time
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.issuer import issuer, new_key
from gates.rig.people import Person
from gates.rig.plain_http import PLAIN
from gates.rig.world import World


def _events(world: World, name: str) -> list[dict[str, Any]]:
    lines = [line for line in world.service.log.read_text().splitlines() if line.startswith("{")]
    return [event for line in lines if (event := json.loads(line)).get("event") == name]


@control("AUT-11", cases=40)
def test_sign_ins_and_refusals_are_on_record_without_the_credential(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as trusted, new_world(**trusted.settings) as world:
        reader, leaver, admin = world.people(["probe_reader"], ["probe_reader"], ["probe_admin", "probe_reader"])
        with proof.positive("a valid key is let in and nothing is held against it"):
            assert world.service.call(reader, "GET", "/v1/runs").status_code == 200
            assert _events(world, "auth.refused") == []
        *name, secret = reader.key.split("_", 3)
        wrong = "_".join([*name, secret[:-4] + "AAAA"])
        world.sql("UPDATE api_keys SET revoked_at = created_at WHERE member_id = ?", leaver.member_id)
        refused = {
            "unknown key": f"svc_test_{uuid4().hex[:12]}_{secret}",
            "wrong secret": wrong,
            "revoked": leaver.key,
            "malformed": f"svc_test_{secret}",
            "unknown subject": trusted.token("eve"),
            "token: InvalidSignatureError": trusted.token("ada", key=new_key()),
            "token: algorithm": trusted.token("ada", header={"alg": "none"}),
            "expired": trusted.token("ada", exp=int(time.time()) - 60),
        }
        for reason, token in refused.items():
            before = len(_events(world, "auth.refused"))
            answer = world.service.call(None, "GET", "/v1/runs", headers={"Authorization": f"Bearer {token}"})
            proof.same("refusals", answer.status_code, 401, reason)
            told = _events(world, "auth.refused")[before:]
            proof.same("refusals", [event["reason"] for event in told], [reason])
            proof.same("refusals", told[0]["address"], "127.0.0.1")
            proof.same("refusals", told[0]["request_id"], answer.headers["x-request-id"])
            proof.holds(
                "not-told-why", reason == "expired" or reason not in answer.text, f"the caller learns: {answer.text}"
            )
        _denied(proof, world, reader, admin)
        _sessions(proof, world, reader, admin)
        log = world.service.log.read_text()
        for reason, token in refused.items():
            pieces = [token[at : at + 12] for at in range(9, len(token) - 12, 6)]
            proof.same("no-credential", [piece for piece in pieces if piece in log], [], f"of the {reason} one:")
        for who in (reader, leaver, admin):
            proof.holds("no-credential", who.key.split("_", 3)[3] not in log, "a key is in the log")


def _denied(proof: Proof, world: World, reader: Person, admin: Person) -> None:
    """Who asks for more than they may is on the tenant's own record."""
    answer = world.service.call(reader, "PUT", "/v1/budgets", json={"scope": "tenant", "limit_usd": "1"})
    proof.same("denials", answer.status_code, 403)
    items = world.service.call(admin, "GET", "/v1/audit?limit=500").json()["items"]
    denied = [item for item in items if item["action"] == "access.denied"]
    proof.same("denials", [(d["actor"], d["data"]["needs"]) for d in denied], [(reader.member_id, "budgets:write")])
    proof.holds("denials", "PUT /v1/budgets" in denied[0]["subject"], denied[0]["subject"])
    proof.same("denials", len(_events(world, "auth.denied")), 1)
    metrics = world.service.operations("/metrics").text
    proof.holds("denials", 'app_auth_refused_total{reason="revoked"} 1.0' in metrics, "not counted by reason")


def _sessions(proof: Proof, world: World, reader: Person, admin: Person) -> None:
    """The console's sign-ins and sign-outs, and what was tried in vain."""
    address = world.service.base_url
    with httpx2.Client(base_url=address, **PLAIN, follow_redirects=True, timeout=300) as browser:
        page = browser.post("/console/sign-in", data={"key": reader.key}).text
        token = page.partition('name="csrf" value="')[2].partition('"')[0]
        browser.post("/console/sign-out", data={"csrf": token})
        before = len(_events(world, "auth.refused"))
        browser.post("/console/sign-in", data={"key": "svc_test_nobody"})
    items = world.service.call(admin, "GET", f"/v1/audit?subject=member:{reader.member_id}").json()["items"]
    told = [item["action"] for item in items if item["action"].startswith("session.")]
    proof.same("sign-ins", told, ["session.started", "session.ended"])
    proof.same("sign-ins", len(_events(world, "auth.refused")) - before, 1, "a sign-in in vain:")


ROUNDS = 160
SHUFFLES = 400


def _times(client: httpx2.Client, requests: dict[str, dict[str, Any]]) -> dict[str, list[float]]:
    """Milliseconds of each kind of request, in turns, so that whatever slows one slows the other."""
    taken: dict[str, list[float]] = {name: [] for name in requests}
    for _ in range(ROUNDS):
        for name, options in random.sample(sorted(requests.items()), len(requests)):
            began = time.perf_counter()
            client.request(**options)
            taken[name].append((time.perf_counter() - began) * 1000)
    return taken


def _unlikely(one: list[float], other: list[float]) -> float:
    """How seldom chance alone makes the medians differ so much: a permutation test, two-sided."""
    seen = abs(statistics.median(one) - statistics.median(other))
    pool, chance = [*one, *other], random.Random(7)  # noqa: S311 - no secret
    as_far = 0
    for _ in range(SHUFFLES):
        chance.shuffle(pool)
        as_far += abs(statistics.median(pool[: len(one)]) - statistics.median(pool[len(one) :])) >= seen
    return as_far / SHUFFLES


def _apart(taken: dict[str, list[float]]) -> str:
    """By how much the two differ in time; empty where chance explains it, or less than a tenth of a millisecond."""
    chance = _unlikely(taken["known"], taken["unknown"])
    apart = statistics.median(taken["known"]) - statistics.median(taken["unknown"])
    return "" if chance > 0.001 or abs(apart) < 0.1 else f"{apart:.2f} ms apart, chance {chance}"


@pytest.mark.timeout(2_800)
@control("AUT-12", cases=9)
def test_nobody_learns_what_exists_from_body_status_or_time(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [stranger] = world.people(["probe_reader", "probe_admin"])
        [owner] = world.people(["probe_reader"])
        run = world.service.start_run(owner, "x", feature="probe").json()["id"]
        with proof.positive("the owner sees it"):
            assert world.service.call(owner, "GET", f"/v1/runs/{run}").status_code == 200
        *name, secret = owner.key.split("_", 3)
        wrong = "_".join([*name, "x" * 43])
        nobody = f"svc_test_{uuid4().hex[:12]}_{secret}"
        mine = {"Authorization": f"Bearer {stranger.key}"}
        pairs: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
            "a run": (
                {"method": "GET", "url": f"/v1/runs/{run}", "headers": mine},
                {"method": "GET", "url": f"/v1/runs/{uuid4()}", "headers": mine},
            ),
            "a member": (
                {"method": "PATCH", "url": f"/v1/members/{owner.member_id}", "headers": mine, "json": {}},
                {"method": "PATCH", "url": f"/v1/members/{uuid4()}", "headers": mine, "json": {}},
            ),
            "a key": (
                {"method": "GET", "url": "/v1/runs", "headers": {"Authorization": f"Bearer {wrong}"}},
                {"method": "GET", "url": "/v1/runs", "headers": {"Authorization": f"Bearer {nobody}"}},
            ),
        }  # fmt: skip
        with httpx2.Client(base_url=world.service.base_url, **PLAIN, timeout=300) as client:
            for what, (known, unknown) in pairs.items():
                answers = [client.request(**options) for options in (known, unknown)]
                told = [{n: v for n, v in answer.json().items() if n != "request_id"} for answer in answers]
                proof.same("same-answer", told[0], told[1], what)
                headers = [sorted(set(answer.headers) - {"date"}) for answer in answers]
                proof.same("same-answer", headers[0], headers[1], what)
                taken = _times(client, {"known": known, "unknown": unknown})
                if _apart(taken):  # by chance, or not: twice as many tell, and see a true difference the better
                    for kind, more in _times(client, {"known": known, "unknown": unknown}).items():
                        taken[kind] += more
                proof.holds("same-time", not _apart(taken), f"{what}: {_apart(taken)}")
