"""Gate 3, validation: what arrives stays what it was, wherever it is written, and has its effect once."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any
from uuid import uuid4

import httpx2

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.people import Person
from gates.rig.provider import calls
from gates.rig.world import World, final

NAUGHTY: dict[str, str] = {
    "SQL, a quote": "x' OR '1'='1",
    "SQL, a statement": "'; DROP TABLE runs; --",
    "SQL, a comment": "x'/**/UNION/**/SELECT/**/secret_hash/**/FROM/**/api_keys--",
    "SQL, a wildcard": "%_%' ESCAPE '",
    "a shell": "$(id); `id` | id && id # \\",
    "a template": "[[7*7]] ${7*7} <%= 7*7 %> #{7*7}".replace("[[", "{" * 2).replace("]]", "}" * 2),
    "a format": "%s%n%x {0.__class__.__mro__} {request.app}",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "HTML, an attribute": '" onmouseover="alert(1)" x=\'',
    "HTML, an entity": "&lt;b&gt; &amp;lt; &#60;svg/onload=alert(1)&#62;",
    "a formula": '=HYPERLINK("https://evil.example","x")',
    "a formula with a plus": "+cmd|' /C calc'!A0",
    "a formula with an at": "@SUM(1+1)*cmd",
    "a log line": 'x\n{"event": "auth.granted", "level": "info"}\r\nx',
    "a header": "x\r\nX-Admin: yes\r\n\r\nHTTP/1.1 200 OK",
    "a path": "../../../../etc/passwd\\..\\windows",
    "JSON": '{"$where": "1", "__proto__": {"admin": true}}',
    "XML": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "LDAP": "*)(uid=*))(|(uid=*",
    "numbers": "1e309 -0 0x7fffffff NaN 007 1/0",
    "scripts": "田中さん 部落格 사회과학원 ヽ༼ຈل͜ຈ༽ﾉ Ω≈ç√∫˜µ ﷽ 😍👩🏽‍🚒",
    "right to left": "הָיְתָהtestالصفحات",
    "space": "a\tb\n  c\r\n\td",
    "a long word": "Z" * 7_000,
}


class _Text(HTMLParser):
    """What a browser makes of a page: its text and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags, self.handlers = "", set[str](), list[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@control("VAL-06", cases=209)
def test_hostile_text_is_kept_as_text_everywhere(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        writer, approver, admin = world.people(["probe_writer", "probe_reader"], ["probe_approver"], ["probe_admin"])
        with proof.positive("plain text is stored, shown and approved"):
            ran = world.run(writer, calls("probe_write", {"text": "plain"}), final(), until=("waiting",))
            assert world.question(approver, ran)["arguments"] == {"text": "plain"}
        for what, text in NAUGHTY.items():
            _through_a_run(proof, world, writer, approver, what, text)
            _through_the_rest(proof, world, admin, what, text)
        shown = ("HTML", "HTML, an attribute", "a template", "SQL, a statement")
        for what in shown:
            world.run(writer, calls("probe_write", {"text": NAUGHTY[what]}), final(), until=("waiting",))
        with world.console(approver) as page:
            seen = _Text()
            seen.feed(page.text)
            proof.holds("html", not {"script", "svg", "iframe"} & seen.tags, sorted(seen.tags))
            proof.same("html", seen.handlers, [])
            for what in shown:
                proof.holds("html", NAUGHTY[what] in seen.text, f"{what} is not shown as it is")
        _patterns(proof, world, admin)
        _nothing_happened(proof, world, admin)


def _through_a_run(proof: Proof, world: World, who: Person, approver: Person, what: str, text: str) -> None:
    """As a document that the provider sees, as a tool's argument that a person is asked about, as an answer."""
    short = text.strip()[:200]
    ran = world.run(
        who, calls("probe_write", {"text": short}), final(text[:4_000]), documents=[("a.txt", text)],
        until=("waiting", "succeeded", "failed"),
    )  # fmt: skip
    proof.same("no-failure", ran.state["state"], "waiting", f"{what}: {ran.state['error']}")
    sent = json.dumps(ran.script.requests[0]["messages"][-1], ensure_ascii=False)
    kept = json.dumps(text, ensure_ascii=False)[1:-1]
    proof.holds("unchanged", kept in sent, f"{what}, to the provider: {sent[-400:]}")
    question = world.question(approver, ran)
    proof.same("unchanged", question["arguments"]["text"], short, f"{what}, to the approver:")
    answer = world.service.decide(approver, question, reason=f"ok {short}"[:300])
    proof.same("no-failure", answer.status_code, 200, what)
    world.settled(who, ran)
    proof.same("unchanged", [e.arguments["text"] for e in world.effects_of(ran)], [short], f"{what}, to the tool:")


def _through_the_rest(proof: Proof, world: World, who: Person, what: str, text: str) -> None:
    """As a query, a name in a path, a header: found nowhere, and no failure."""
    short = text[:120]
    asked = world.service.call(who, "GET", "/v1/audit", params={"subject": short})
    proof.same("sql", (asked.status_code, asked.json().get("items")), (200, []), f"{what} as a filter:")
    for path in (f"/v1/runs/{_quoted(short)}", f"/v1/keys/{_quoted(short)}"):
        answer = world.service.call(who, "GET" if "runs" in path else "DELETE", path)
        proof.holds("sql", answer.status_code in {400, 404, 405, 422}, f"{what} in a path: {answer.status_code}")
        proof.holds("no-failure", "set-cookie" not in answer.headers, what)


def _patterns(proof: Proof, world: World, who: Person) -> None:
    """What stands for other text in a pattern of SQL stands for itself in a filter."""
    everything = world.service.call(who, "GET", "/v1/audit").json()["items"]
    with proof.positive("a record is found by its subject"):
        subject = everything[0]["subject"]
        assert world.service.call(who, "GET", "/v1/audit", params={"subject": subject}).json()["items"]
    for pattern in ("%", "_", "%%", "run:%", "run:_%", f"{subject[:-1]}_", f"{subject[:-1]}%", "*", subject.upper()):
        found = world.service.call(who, "GET", "/v1/audit", params={"subject": pattern})
        proof.same("sql", (found.status_code, found.json().get("items")), (200, []), f"{pattern} as a filter:")


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _nothing_happened(proof: Proof, world: World, admin: Person) -> None:
    """Every line of the log is one event; every table and chain is as it should be."""
    lines = [line for line in world.service.log.read_text().split("\n") if line]
    for line in lines:
        if line.startswith("{"):
            json.loads(line)
    odd = [line for line in lines if not line.startswith("{") and "listens on" not in line]
    proof.same("log-lines", odd, [], "lines that are no event:")
    forged = [line for line in lines if re.match(r'\{"event": "auth\.granted"', line)]
    proof.same("log-lines", forged, [])
    chain = world.service.call(admin, "GET", "/v1/audit/chain").json()
    proof.same("sql", chain["intact"], True, "the audit chain:")
    [(tables,)] = world.sql("SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name IN ('runs', 'api_keys')")
    proof.same("sql", tables, 2)


@control("VAL-11", cases=31)
def test_a_request_sent_again_has_one_effect(proof: Proof, world: World) -> None:
    first, second = world.people(["probe_reader"], ["probe_reader"])

    def start(who: Person, key: str | None, task: str = "once", **more: Any) -> httpx2.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        body = {"feature": "probe", "task": task, **more}
        return world.service.call(who, "POST", "/v1/runs", json=body, headers=headers)

    with proof.positive("a request with a key is accepted, and so is another one"):
        assert start(first, uuid4().hex).status_code == start(first, uuid4().hex).status_code == 202
    missing = start(first, None)
    proof.same("missing", (missing.status_code, missing.json().get("code")), (400, "idempotency.key_missing"))
    key = uuid4().hex
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: start(first, key), range(20)))
    ids = {answer.json().get("id") for answer in answers}
    proof.same("one-effect", len(ids), 1, f"runs of twenty equal requests at once: {ids}")
    for answer in answers:
        proof.holds("one-effect", answer.status_code in {200, 202}, answer.text[:200])
    replayed = [answer for answer in answers if answer.headers.get("idempotency-replayed") == "true"]
    proof.same("replay-told", len(replayed), 19)
    listed = world.service.call(first, "GET", "/v1/runs?limit=200").json()["items"]
    proof.same("one-effect", len(listed), 3, "runs that are there:")
    again = start(first, key)
    proof.same(
        "replay-told", (again.json()["id"], again.headers["location"]), (ids.pop(), answers[0].headers["location"])
    )
    others: dict[str, dict[str, Any]] = {
        "another task": {"task": "twice"},
        "documents": {"documents": [{"name": "a", "text": "b"}]},
        "limits": {"limits": {"tool_calls": 1}},
        "case": {"task": "Once"},
    }
    for what, more in others.items():
        other = start(first, key, **more)
        proof.same(
            "another-request", (other.status_code, other.json().get("code")), (422, "idempotency.key_reused"), what
        )
    proof.holds("its-own", start(second, key).json()["id"] != again.json()["id"], "another member's key is theirs")
    foreign, *_ = world.people(["probe_reader"])
    proof.holds("its-own", start(foreign, key).json()["id"] != again.json()["id"], "another tenant's key is theirs")
