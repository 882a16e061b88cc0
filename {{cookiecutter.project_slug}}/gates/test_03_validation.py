"""Gate 3, validation: can invalid or malicious input reach core logic?"""

import json
from copy import deepcopy
from typing import Any

from gates.conftest import Target
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.provider import calls, says
from gates.rig.world import World, final

RUN = {"feature": "probe", "task": "Say something.", "documents": []}
DOCUMENT = {"name": "a.txt", "text": "text"}
KEY = {"Idempotency-Key": "validation"}

OUT_OF_BOUNDS: dict[str, dict[str, Any]] = {
    "an empty task": {"task": ""},
    "a task of spaces": {"task": "   "},
    "a long task": {"task": "x" * 8_001},
    "a number": {"task": 7},
    "null": {"task": None},
    "a list": {"task": ["x"]},
    "NUL": {"task": "a\0b"},
    "a feature with a path": {"feature": "../probe"},
    "a feature in capitals": {"feature": "PROBE"},
    "a long feature": {"feature": "p" * 61},
    "documents as text": {"documents": "none"},
    "a document without text": {"documents": [{"name": "a.txt"}]},
    "an empty document": {"documents": [{"name": "a.txt", "text": ""}]},
    "a long document": {"documents": [{"name": "a.txt", "text": "x" * 100_001}]},
    "a long name": {"documents": [{"name": "x" * 121, "text": "x"}]},
}
QUERIES = [
    "limit=0", "limit=-1", "limit=1000000", "limit=x", "limit=1.5", "cursor=not-an-id", "cursor=%27%20or%201=1",
]  # fmt: skip


@control("VAL-01", cases=43)
def test_only_what_the_schema_allows_gets_in(proof: Proof, target: Target) -> None:
    with proof.positive("a well-formed question is answered"):
        assert target.call("GET", "/v1/runs?limit=1").status_code == 200
    for what, change in OUT_OF_BOUNDS.items():
        answer = target.call("POST", "/v1/runs", json={**RUN, **change}, headers=KEY)
        proof.same("bounds", answer.status_code, 422, what)
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        proof.holds("bounds", any(p.startswith(f"/{next(iter(change))}") for p in pointers), f"{what}: {pointers}")
    for query in QUERIES:
        proof.same("query", target.call("GET", f"/v1/runs?{query}").status_code, 422, query)
    for key in ("", "a\tb", "x" * 256, "a b", "ä".encode("latin-1")):
        answer = target.call("POST", "/v1/runs", json=RUN, headers={"Idempotency-Key": key})
        proof.same("header", answer.status_code, 400, repr(key))
    six = target.call("POST", "/v1/runs", json={**RUN, "documents": [DOCUMENT] * 6}, headers=KEY)
    proof.same("documents", six.status_code, 422, "six documents")


@control("VAL-01", cases=21)
def test_every_request_body_refuses_fields_it_does_not_know(proof: Proof, world: World) -> None:
    roles = ["probe_writer"], ["probe_admin"], ["platform_operator"], ["probe_approver"]
    people = world.people(*roles)
    with proof.positive("five documents are accepted, and the same body works without the unknown field"):
        five = world.service.start_run(
            people[0], world.model.script(final()).task(), feature="probe", documents=[("a.txt", "text")] * 5
        )
        assert five.status_code == 202
    good: dict[tuple[str, str], dict[str, Any]] = {
        ("POST", "/v1/runs"): {**RUN, "documents": [DOCUMENT]},
        ("POST", "/v1/keys"): {"member_id": people[0].member_id},
        ("PUT", "/v1/budgets"): {"scope": "tenant", "limit_usd": "20"},
        ("PUT", f"/v1/switches/tenant:{people[0].tenant_id}"): {"state": "off", "reason": "a drill"},
        ("POST", f"/v1/approvals/{people[0].member_id}/decision"): {
            "decision": "deny", "digest": "0" * 64, "reason": "a drill",
        },
    }  # fmt: skip
    for (method, path), body in good.items():
        for field in ("unknown", "tenant_id"):
            answers = [world.service.call(who, method, path, json={**body, field: "x"}, headers=KEY) for who in people]
            permitted = [answer for answer in answers if answer.status_code != 403]
            statuses = {answer.status_code for answer in permitted}
            proof.same("unknown-field", statuses, {422}, f"{method} {path} with {field}:")
            proof.holds("unknown-field", f"/{field}" in permitted[0].text, permitted[0].text)
    nested = deepcopy({**RUN, "documents": [{**DOCUMENT, "role": "system"}]})
    answer = world.service.call(people[0], "POST", "/v1/runs", json=nested, headers=KEY)
    proof.same("unknown-field", answer.status_code, 422, "a field inside a document")


BAD_ARGUMENTS: dict[str, Any] = {
    "a missing field": {},
    "an extra field": {"query": "a", "admin": True},
    "a number for text": {"query": 7},
    "null": {"query": None},
    "a list": {"query": ["a"]},
    "text for a number": {"query": "a", "limit": "5"},
    "a number below": {"query": "a", "limit": 0},
    "a number above": {"query": "a", "limit": 10**9},
    "a fraction": {"query": "a", "limit": 1.5},
    "a path": {"query": "../../etc/passwd"},
    "a command": {"query": "a; rm -rf /"},
    "too much text": {"query": "a" * 100_000},
    "no object": [1, 2],
    "broken JSON": '{"query": "a"',
    "NaN": '{"query": "a", "limit": NaN}',
    "depth": '{"query": ' + "[" * 2_000 + "]" * 2_000 + "}",
}


BAD_SIDE_EFFECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "a write of a long text": ("probe_write", {"text": "x" * 201}),
    "a write with another field": ("probe_write", {"text": "x", "to": "y"}),
    "a delete of a path": ("probe_delete", {"item": "../x"}),
    "a post of a number": ("probe_post", {"text": 7}),
}


@control("VAL-04", cases=56)
def test_the_model_s_arguments_are_checked_before_anything_happens(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    with proof.positive("good arguments reach the tool as they are"):
        ran = world.run(writer, calls("probe_lookup", {"query": "a", "limit": 3}), final())
        assert [effect.arguments for effect in world.effects_of(ran)] == [{"query": "a", "limit": 3}]
    for what, arguments in BAD_ARGUMENTS.items():
        ran = world.run(writer, calls("probe_lookup", arguments), final())
        proof.same("no-effect", world.effects_of(ran), [], what)
        proof.same("typed-error", ran.state["state"], "succeeded", what)
        told = json.dumps(ran.script.requests[-1]["messages"][-1])
        proof.holds("typed-error", len(ran.script.seen) == 2 and "crashed" not in told, f"{what}: {told[:200]}")
    for what, (tool, arguments) in BAD_SIDE_EFFECTS.items():
        ran = world.run(writer, calls(tool, arguments), final(), until=("waiting", "succeeded", "failed"))
        proof.same("no-question", world.service.pending(approver, ran.id), [], what)
        proof.same("no-question", ran.state["state"], "succeeded", what)


BAD_ANSWERS: dict[str, Reply] = {
    "prose": says("I would rather chat."),
    "a missing field": calls("final_result", {"answer": "x"}),
    "a value outside the list": calls("final_result", {"answer": "x", "mood": "furious"}),
    "an extra field": calls("final_result", {"answer": "x", "mood": "calm", "exec": "rm"}),
    "broken JSON": calls("final_result", '{"answer": "x", "mood": '),
    "code": calls("final_result", "__import__('os').system('true')"),
    "a megabyte": calls("final_result", {"answer": "x" * 1_000_000, "mood": "calm"}),
    "nothing": Reply(text=""),
}


@control("VAL-05", cases=24)
def test_the_model_s_answer_is_parsed_or_the_run_fails_typed(proof: Proof, world: World) -> None:
    [who] = world.people(["probe_reader"])
    with proof.positive("an answer that fits after two repairs is accepted"):
        ran = world.run(who, says("no form"), says("none again"), final("done"))
        assert ran.state["output"] == {"answer": "done", "mood": "calm"}
    for what, answer in BAD_ANSWERS.items():
        ran = world.run(who, answer)
        proof.holds("two-repairs", len(ran.script.seen) <= 3, f"{what}: {len(ran.script.seen)} requests")
        code = (ran.state["error"] or {}).get("code")
        # To show so long an answer to the model again, for a repair, is refused before the provider is asked.
        expected = "model.context_too_long" if what == "a megabyte" else "model.output_invalid"
        proof.same("typed-outcome", (ran.state["state"], code), ("failed", expected), what)
        proof.same("not-stored", ran.state["output"], None, what)
