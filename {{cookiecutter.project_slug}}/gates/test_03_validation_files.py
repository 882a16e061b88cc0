"""Gate 3, validation: files are what they say, unpack to a sensible size, and harm nobody who reads them."""

import base64
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

import psutil

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.files import pdf, word
from gates.rig.people import Person
from gates.rig.world import World, final

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 64


def _sent(world: World, who: Person, name: str, raw: bytes) -> Any:
    script = world.model.script(final())
    body = {"documents": [{"name": name, "content_base64": base64.b64encode(raw).decode()}]}
    answer = world.service.start_run(who, script.task(), feature="probe", body=body)
    if answer.status_code == 202:
        world.service.run_until(who, answer.json()["id"], "succeeded", "failed")
    return answer, script


@control("VAL-07", cases=49)
def test_a_file_is_read_only_if_it_is_what_it_says_and_no_trap(proof: Proof, new_world: NewWorld) -> None:
    with new_world(REQUEST_MAX_BYTES="9000000") as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("a PDF, a Word document and a text are read, and their text reaches the model"):
            files = {
                "a.pdf": pdf("page one", "page two"),
                "a.docx": word("a paragraph"),
                "a.txt": "plain café".encode(),
            }
            for name, raw in files.items():
                answer, script = _sent(world, who, name, raw)
                assert answer.status_code == 202, answer.text
                told = str(script.requests[0]["messages"][1]["content"])
                assert all(word in told for word in {"a.pdf": ("page one", "page two")}.get(name, ()))
                assert {"a.docx": "a paragraph", "a.txt": "plain café"}.get(name, "") in told
        claims = {
            "a PDF called text": ("a.txt", pdf("x")), "a text called PDF": ("a.pdf", b"just text"),
            "a picture called PDF": ("a.pdf", PNG), "a picture": ("a.png", PNG),
            "a program": ("a.exe", b"MZ\x90\0" * 9), "an archive called Word": ("a.docx", b"PK\x03\x04" + b"\0" * 99),
            "a Word document called PDF": ("a.pdf", word("x")),
            "no ending": ("a", b"text"), "not UTF-8": ("a.txt", b"\xff\xfe\0x"), "an empty text": ("a.txt", b"  \n"),
            "a scan without text": ("a.pdf", pdf("")), "HTML": ("a.html", b"<script>x</script>"),
        }  # fmt: skip
        _refused(proof, world, who, "kind", claims)
        bombs = {
            "an archive that unpacks a thousandfold": ("a.docx", word("x", filler=19_000_000)),
            "an archive of a hundred megabytes": ("a.docx", word("x", filler=100_000_000)),
            "an archive of many parts": ("a.docx", word("x", parts=1_500)),
            "a text that is too long": ("a.txt", b"long " * 30_000),
            "a PDF of many pages": ("a.pdf", pdf(*["x"] * 300)),
            "a PDF that unpacks to a gigabyte": ("a.pdf", pdf("x", filler=1_000_000_000)),
            "a file of six megabytes": ("a.txt", b"x" * 6_000_000),
        }
        _refused(proof, world, who, "size", bombs)
        outside = f"{world.sink.url}/xxe"
        entity = f'<!DOCTYPE d [<!ENTITY x SYSTEM "{outside}"><!ENTITY y SYSTEM "file:///etc/passwd">]>'
        laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        traps = {
            "an entity from outside": ("a.docx", word("&x;&y;", before=entity)),
            "a definition from outside": ("a.docx", word("x", before=f'<!DOCTYPE d SYSTEM "{outside}">')),
            "entities within entities": ("a.docx", word("&l9;", before=f'<!DOCTYPE d [<!ENTITY l0 "ha">{laughs}]>')),
        }
        _refused(proof, world, who, "entities", traps)
        proof.same("entities", world.sink.at("/xxe"), [], "fetched because a document said so:")
        began = time.monotonic()
        deep = pdf("x").replace(b"/Kids [3 0 R]", b"/Kids [2 0 R]")  # a page tree that contains itself
        _refused(proof, world, who, "limits", {"a page tree without end": ("a.pdf", deep)})
        proof.in_time("limits", time.monotonic() - began, 12)
        answer, _ = _sent(world, who, "a.txt", b"still here")
        proof.same("limits", answer.status_code, 202, "afterwards the service reads on:")


def _refused(proof: Proof, world: World, who: Person, assertion: str, files: dict[str, tuple[str, bytes]]) -> None:
    for what, (name, raw) in files.items():
        answer, script = _sent(world, who, name, raw)
        proof.same(assertion, answer.status_code, 422, f"{what}: {answer.text[:200]}")
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        proof.same(assertion, (pointers[0].split("/")[1], script.seen), ("documents", []), what)


@control("VAL-07", cases=31)
def test_no_file_is_read_for_a_request_that_is_refused_or_known(proof: Proof, new_world: NewWorld) -> None:
    """Reading costs a process: what is refused for less, or was answered before, starts none."""
    limits = '[limits]\naddress = "9000/minute"\nrefused = "90/hour"\nmember = "9000/minute"\ncostly = "40/hour"\n'
    with new_world(limits=limits) as world:
        who, admin, chatter, operator = world.people(
            ["probe_reader"], ["probe_admin"], ["probe_chatter"], ["platform_operator"]
        )
        before = world.files_read
        with proof.positive("a file of a new request is read by one process"):
            first = _file_sent(world, who, "first")
            assert (first.status_code, world.files_read - before) == (202, 1)
        before = world.files_read

        def unread(what: str, expected: int, answer: Any) -> None:
            proof.same("asked-first", answer.status_code, expected, f"{what}: {answer.text[:200]}")
            proof.same("asked-first", world.files_read - before, 0, f"{what}, processes:")

        unread("without a permission", 403, _file_sent(world, chatter, "x"))
        unread("without an idempotency key", 400, world.service.call(who, "POST", "/v1/runs", json=_with_file()))
        unread("an unknown feature", 422, _file_sent(world, who, "x", feature="nothing"))
        unread("limits above the service's", 422, _file_sent(world, who, "x", limits={"model_calls": 1_000}))
        _replayed(proof, world, who, first.json()["id"], "while all is well")
        unread("the key of another request", 422, _file_sent(world, who, "first", task="Another task."))
        unread("the key of a request with another file", 422, _file_sent(world, who, "first", text="another page"))
        for name in ("runs", f"tenant:{who.tenant_id}", "feature:probe"):
            switch = {"state": "on", "reason": "a drill"}
            assert world.service.call(operator, "PUT", f"/v1/switches/{name}", json=switch).status_code == 200
            unread(f"{name} is thrown", 503, _file_sent(world, who, name))
            _replayed(proof, world, who, first.json()["id"], f"while {name} is thrown")
            world.service.call(operator, "PUT", f"/v1/switches/{name}", json={**switch, "state": "off"})
        _frozen(world, admin, frozen=True)
        unread("the budget is frozen", 402, _file_sent(world, who, "frozen"))
        _replayed(proof, world, who, first.json()["id"], "while the budget is frozen")
        _frozen(world, admin, frozen=False)
        with proof.positive("afterwards the same is read again"):
            assert (_file_sent(world, who, "after").status_code, world.files_read - before) == (202, 1)
        before = world.files_read
        answers = [_file_sent(world, who, "first").status_code for _ in range(40)]
        proof.same(
            "asked-first", (answers[-1], world.files_read - before), (429, 0), "above the rate of costly requests:"
        )


@control("VAL-07", cases=43)
def test_one_tenant_does_not_have_all_readers(proof: Proof, new_world: NewWorld) -> None:
    with new_world() as world:
        [greedy], [other] = world.people(["probe_reader"]), world.people(["probe_reader"])
        with proof.positive("a file is read"):
            assert _file_sent(world, greedy, "first").status_code == 202
        peak = _Peak(world)
        with ThreadPoolExecutor(41) as pool:
            with peak.watched():
                told = [each.result() for each in [pool.submit(_file_sent, world, greedy, f"a{n}") for n in range(20)]]
            proof.same("share", peak.most, 1, "readers of one tenant at once, at most:")
            burst = [pool.submit(_file_sent, world, greedy, f"b{n}") for n in range(20)]
            between = pool.submit(_file_sent, world, other, "between")
            told += [each.result() for each in burst]
        proof.same("share", between.result().status_code, 202, "a file of another tenant meanwhile:")
        proof.holds("share", any(each.status_code == 429 for each in told), "the queue of a tenant has no end")
        for each in told:
            wait = each.headers.get("retry-after", "")
            proof.holds("share", each.status_code == 202 or wait.isdigit(), f"{each.status_code}: {each.text[:200]}")


def _frozen(world: World, admin: Person, *, frozen: bool) -> None:
    change = {"scope": "tenant", "frozen": frozen, "reason": "a drill"}
    answer = world.service.call(admin, "PUT", "/v1/budgets", json=change)
    assert answer.status_code == 200, answer.text


class _Peak:
    """How many reading processes are alive at once, seen from outside."""

    def __init__(self, world: World) -> None:
        assert world.service.process is not None
        self.service, self.most = psutil.Process(world.service.process.pid), 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        stop = Event()
        watcher = Thread(target=self._watch, args=(stop,))
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()

    def _watch(self, stop: Event) -> None:
        while not stop.wait(0.01):
            alive = 0
            for child in self.service.children(recursive=True):
                with suppress(psutil.Error):
                    alive += any(word.endswith("reader.py") for word in child.cmdline())
            self.most = max(self.most, alive)


def _with_file(text: str = "a page", task: str = "Look.", feature: str = "probe", **more: Any) -> dict[str, Any]:
    raw = base64.b64encode(pdf(text)).decode()
    return {"feature": feature, "task": task, "documents": [{"name": "a.pdf", "content_base64": raw}], **more}


def _file_sent(world: World, who: Person, key: str, **more: Any) -> Any:
    key = key.replace(" ", "-")
    return world.service.call(who, "POST", "/v1/runs", json=_with_file(**more), headers={"Idempotency-Key": key})


def _replayed(proof: Proof, world: World, who: Person, run_id: str, when: str) -> None:
    before = world.files_read
    answer = _file_sent(world, who, "first")
    told = (answer.status_code in {200, 202}, answer.json().get("id"), answer.headers.get("idempotency-replayed"))
    proof.same("asked-first", told, (True, run_id, "true"), f"a replay {when}: {answer.text[:200]}")
    proof.same("asked-first", world.files_read - before, 0, f"a replay {when}, processes:")
