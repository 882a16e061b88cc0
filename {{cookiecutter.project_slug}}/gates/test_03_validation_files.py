"""Gate 3, validation: files are what they say, unpack to a sensible size, and harm nobody who reads them."""

import base64
import time
from typing import Any

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
        proof.holds("limits", time.monotonic() - began < 12, f"{time.monotonic() - began:.1f} s")
        answer, _ = _sent(world, who, "a.txt", b"still here")
        proof.same("limits", answer.status_code, 202, "afterwards the service reads on:")


def _refused(proof: Proof, world: World, who: Person, assertion: str, files: dict[str, tuple[str, bytes]]) -> None:
    for what, (name, raw) in files.items():
        answer, script = _sent(world, who, name, raw)
        proof.same(assertion, answer.status_code, 422, f"{what}: {answer.text[:200]}")
        pointers = [error["pointer"] for error in answer.json()["errors"]]
        proof.same(assertion, (pointers[0].split("/")[1], script.seen), ("documents", []), what)
