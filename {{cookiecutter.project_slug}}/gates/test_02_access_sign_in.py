"""Gate 2, access: signing in to the console at the identity provider, and the answers that are not to this sign-in."""

import pytest

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.browser import begin, browser, come_back, csrf, sign_in
from gates.rig.issuer import Issuer, issuer
from gates.rig.people import Person
from gates.rig.world import World

COOKIE = "console_session"


@pytest.mark.timeout(2_000)
@control("AUT-02", cases=5)
def test_an_answer_to_another_sign_in_signs_nobody_in(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as trusted, new_world(**trusted.sign_in_settings) as world:
        [who] = world.people(["probe_holder"])
        subject = world.link(who, trusted.url)
        with proof.positive("a person signs in at the provider"), browser(world) as client:
            assert sign_in(client, trusted, subject).status_code == 200
            assert who.name in client.get("/console").text
        for what in ("state", "nonce", "iss", "azp", "no attempt"):
            proof.same("sign-in", _signed_in_with(world, trusted, subject, what), (401, False), f"another {what}:")


def _signed_in_with(world: World, trusted: Issuer, subject: str, what: str) -> tuple[int, bool]:
    """Status and whether there is a session, for an answer that differs from what was asked in one thing."""
    with browser(world) as client:
        asked = begin(client)
        nonce = "another" if what == "nonce" else asked["nonce"]
        code = trusted.code(subject, nonce, **({"azp": "another-client"} if what == "azp" else {}))
        if what == "no attempt":
            client.cookies.clear()
        more = {"iss": "https://evil.rig.test"} if what == "iss" else {}
        answer = come_back(client, "another" if what == "state" else asked["state"], code, **more)
        return answer.status_code, COOKIE in answer.headers.get("set-cookie", "")


@pytest.mark.timeout(2_000)
@control("AUT-11", cases=2)
def test_a_sign_in_at_the_provider_and_the_key_taken_there_are_on_record(proof: Proof, new_world: NewWorld) -> None:
    with issuer() as trusted, new_world(**trusted.sign_in_settings) as world:
        who, admin = world.people(["probe_holder"], ["probe_admin"])
        with (
            proof.positive("a person signs in at the provider and issues a key in the console"),
            browser(world) as client,
        ):
            assert sign_in(client, trusted, world.link(who, trusted.url)).status_code == 200
            token = csrf(client.get("/console").text)
            assert "svc_test_" in client.post("/console/keys", data={"csrf": token}).text
        proof.same("sign-ins", _facts(world, admin, who, "session.started", "how"), ["provider"])
        proof.same("sign-ins", _facts(world, admin, who, "key.issued", "how"), ["own sign-in"])


def _facts(world: World, admin: Person, who: Person, action: str, fact: str) -> list[str]:
    items = world.service.call(admin, "GET", "/v1/audit").json()["items"]
    return [i["data"].get(fact) for i in items if (i["action"], i["actor"]) == (action, who.member_id)]
