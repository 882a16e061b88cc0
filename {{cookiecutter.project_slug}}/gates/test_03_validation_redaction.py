"""Gates 1 and 3: whatever a chat request holds, and whatever a trace tells, no person and no credential is in it."""

import json
from typing import Any

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.interfaces import IN_EITHER_INTERFACE, asked_vectors
from gates.rig.personal_data import HARMLESS
from gates.rig.provider import Body, Script, calls, says
from gates.rig.responses import Asks
from gates.rig.vectors import catalogue, vectors
from gates.rig.world import World

MAIL, SSN, CARD = "ada.lovelace@mail.rig.test", "536-90-4399", "4111111111111111"
NAME, CALL = f"note-{SSN}", f"call-{SSN}"
KEY_LINES = "MIIFDjBABgkqhkiG9w0BBQ0wMzAbBgkqhkiG9w0BBQwwDgQI\nUmlnVGVzdFJpZ1Rlc3RSaWdUZXN0UmlnVGVzdFJpZw=="
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
BEGIN, END = "-----BEGIN {} PRIVATE KEY-----\n", "\n-----END {} PRIVATE KEY-----"
CREDENTIALS = {
    "a private key under a password": BEGIN.format("ENCRYPTED") + KEY_LINES + END.format("ENCRYPTED"),
    "a private key without its end": BEGIN.format("RSA") + KEY_LINES,
    "a PGP key": f"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{KEY_LINES}\n-----END PGP PRIVATE KEY BLOCK-----",
    "an address with a password": "postgresql://svc:" + "rig-pass-1@db.rig.test:5432/app",
    "a header": "Authorization: Basic " + "cmlnOnJpZy1wYXNzd29yZA==",
    "a setting": "aws_secret_access_key = " + "wJalrXUtnFEMIK7MDENGbPxRfiCYRIGTESTKEY1",
    "a vendor's key": "glpat-" + "rig1Rig2Rig3Rig4Rig5",
    "a key of a vendor on no list": "rigco_" + "a8Kd02LmQ9zX4vBn7TyU1wEr5",
}
SECRET_PARTS = ("UmlnVGVzd", "MIIFDj", "rig-pass-1", "cmlnOnJp", "wJalrX", "rig1Rig2", "a8Kd02")
NUMBERS = {
    "a Brazilian's": "390.533.447-05", "a Briton's in health care": "943 476 5919", "an Italian's": "RSSMRA85T10A562S",
    "a Finn's": "131052-308T", "a Spaniard's": "12345678Z", "a Pole's, after a word": "PESEL 44051401359",
    "a phone's, of the country": "call 4155550123", "a phone's, of another": "06 12 34 56 78",
}  # fmt: skip


def _conversation(script: Script) -> list[Body]:
    arguments = json.dumps({MAIL: float(CARD), "n": int(CARD)})
    call = {"id": CALL, "type": "function", "function": {"name": NAME, "arguments": arguments}}
    return [
        {"role": "user", "name": f"n-{SSN}", "content": script.task("Look.")},
        {"role": "assistant", "refusal": f"Not for {MAIL}.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": CALL, "content": "found"},
        {"role": "user", "content": MAIL},
    ]


def _request() -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {SSN: {"type": "string", "description": f"Of {MAIL}."}},
        "required": [SSN],
    }
    return {
        "tools": [{"type": "function", "function": {"name": NAME, "description": MAIL, "parameters": schema}}],
        "tool_choice": {"type": "function", "function": {"name": NAME}},
        "response_format": {"type": "json_schema", "json_schema": {"name": f"f-{SSN}", "schema": {"title": MAIL}}},
        "stop": [MAIL], "seed": int(CARD), "user": MAIL, "metadata": {"of": MAIL},
    }  # fmt: skip


def _calls_back(body: Body) -> Reply:
    """The tool it is given, with the property and the value that it reads."""
    function = body["tools"][0]["function"]
    [name] = function["parameters"]["properties"]
    return calls(function["name"], {name: body["messages"][-1]["content"]})


@control("VAL-09", cases=22)
@IN_EITHER_INTERFACE
def test_no_field_of_a_chat_request_tells_of_a_person(proof: Proof, world: World, ask: Asks) -> None:
    """fault 36"""
    [who] = world.people(["probe_chatter"])
    with proof.positive("what is not personal reaches the provider as it is"):
        script = world.model.script(says("Good day."))
        ask(world, who, script, messages=[{"role": "user", "content": script.task(HARMLESS)}])
        assert HARMLESS in script.seen[0].raw.decode()
    script = world.model.script(_calls_back)
    told = ask(world, who, script, messages=_conversation(script), **_request())
    raw = script.seen[0].raw.decode()
    sent = json.loads(raw)
    for field, part in sent.items():
        for value in (MAIL, SSN, CARD):
            proof.holds("every-field", value not in json.dumps(part), f"{value} in {field}")
    [call] = sent["messages"][1]["tool_calls"]
    proof.same("every-field", call["id"], sent["messages"][2]["tool_call_id"], "a call and its result:")
    names = {call["function"]["name"], sent["tools"][0]["function"]["name"], sent["tool_choice"]["function"]["name"]}
    proof.same("every-field", len(names), 1, "a tool, its choice and its call:")
    proof.same("put-back", told.tools, [NAME], "the tool that the client is to call:")
    proof.same("put-back", json.loads(told.arguments), {SSN: MAIL}, "with its own names:")


@control("VAL-09", cases=2 * len(CREDENTIALS) + 2 * len(NUMBERS))
@IN_EITHER_INTERFACE
def test_no_credential_and_no_national_number_leaves(proof: Proof, world: World, ask: Asks) -> None:
    """fault 37"""
    [who] = world.people(["probe_chatter"])
    with proof.positive("what is not personal reaches the provider as it is"):
        script = world.model.script(says("Good day."))
        ask(world, who, script, messages=[{"role": "user", "content": script.task(HARMLESS)}])
        assert HARMLESS in script.seen[0].raw.decode()
    for name, values in (("credentials", CREDENTIALS), ("numbers", NUMBERS)):
        for kind, value in values.items():
            script = world.model.script(lambda body: says(f"You said {body['messages'][-1]['content']}."))
            messages = [{"role": "user", "content": script.task("Look.")}, {"role": "user", "content": value}]
            told = ask(world, who, script, messages=messages)
            last = json.loads(script.seen[0].raw)["messages"][-1]["content"]
            proof.holds(name, not any(part in last for part in _secret_parts(kind, value)), f"{kind}: {last}")
            proof.same("put-back", told.text, f"You said {value}.", f"{kind}:")


@control("VAL-09", cases=len(CREDENTIALS) + len(NUMBERS))
def test_no_credential_and_no_national_number_leaves_for_embeddings(proof: Proof, new_world: NewWorld) -> None:
    with new_world(catalogue=catalogue()) as world:
        who, script = world.people(["probe_chatter"])[0], world.model.script(vectors)
        with proof.positive("what is not personal reaches the provider as it is"):
            assert asked_vectors(world, who, script, texts=[HARMLESS]).status == 200
            assert HARMLESS in script.seen[0].raw.decode()
        for name, values in (("credentials", CREDENTIALS), ("numbers", NUMBERS)):
            for kind, value in values.items():
                script = world.model.script(vectors)
                asked_vectors(world, who, script, texts=[f"About {value}", value])
                sent = " ".join(json.loads(script.seen[0].raw)["input"])
                proof.holds(name, not any(part in sent for part in _secret_parts(kind, value)), f"{kind}: {sent}")


def _secret_parts(kind: str, value: str) -> list[str]:
    """What of a value must not leave: a word before it may."""
    parts = [part for part in SECRET_PARTS if part in value]
    parts = parts or [value.split(" ", 1)[-1] if kind.endswith("word") else value]
    return [part.removeprefix("call ") for part in parts]


@control("SEC-06", cases=4)
def test_no_span_tells_what_stood_in_an_address(proof: Proof, new_world: NewWorld) -> None:
    """fault 9"""
    with new_world(OTEL_EXPORTER_OTLP_ENDPOINT="<SINK>") as world:
        [reader] = world.people(["probe_reader"])
        with proof.positive("requests leave spans"):
            assert world.service.call(reader, "GET", "/v1/usage").status_code == 200
        for path in ("/console/signed-in?code=rig-code-1&state=rig-state-1", "/v1/runs?cursor=ada%40mail.rig.test"):
            world.service.call(reader, "GET", path, headers={"traceparent": PARENT, "tracestate": "a=rig-code-1"})
        world.service.stop()  # what was still queued leaves now
        spans = b"".join(hit.body for hit in world.sink.at("/v1/traces"))
        proof.holds("span-queries", b"/v1/usage" in spans and b"/v1/runs" in spans, "no span of these requests arrived")
        for part in (b"rig-code-1", b"rig-state-1", b"ada%40mail"):
            proof.holds("span-queries", part not in spans, f"{part!r} in a span")
