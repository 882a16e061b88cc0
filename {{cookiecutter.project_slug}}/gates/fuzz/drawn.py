"""Requests that Hypothesis draws for every route: meant well at first, then spoiled in up to three ways.

One canary stands in for whatever a caller sends as a value; names of fields are no values.
"""

import gzip
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st

from gates.matrix.requests import BODIES, EVERYBODYS, FORMS, QUERIES, filled
from gates.rig.routes import Route

CANARY = "canaryqzvxkwjhtplm"  # fits what names, roles and features may look like
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Drawn:
    method: str
    route: str
    path: str
    query: bytes
    headers: Headers
    body: bytes

    def head(self) -> bytes:
        target = quote(self.path, safe="/%:").encode() + (b"?" + self.query if self.query else b"")
        lines = [self.method.encode() + b" " + target + b" HTTP/1.1"]
        lines += [name + b": " + value for name, value in self.headers]
        return b"\r\n".join(lines) + b"\r\n\r\n"


_text = st.one_of(
    st.just(CANARY),
    st.text(max_size=40).map(lambda text: text + CANARY),
    st.sampled_from(
        ["", " ", "\0", "a\0b", "\ud800", "\u202e", "﷽" * 400, "x" * 9_000, "../../etc/passwd", "' OR 1=1 --"]
    ),
    st.just(f"{CANARY[:6]}:{CANARY}"),
)
_number = st.sampled_from([0, -1, 1, 2**31, 2**63, 10**400, 0.1, 1e308, float("nan"), float("inf"), -0.0, 5.0])
_scalar = st.one_of(_text, _number, st.booleans(), st.none())
_json = st.recursive(
    _scalar,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abcdefé~/.", max_size=8), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip
HOSTILE = (
    b"[" * 20_000, b"[" * 900 + b"]" * 900, b'{"a":' * 3_000 + b"1" + b"}" * 3_000, b"", b" ", b"\xef\xbb\xbf{}", b"{",
    b'{"task": 1e400}', b'{"task": "\\ud800"}', b'{"task": "\xff\xfe"}', b"null", b"[]", b'"x"', b"NaN",
    b'{"reason": "a", "reason": "' + CANARY.encode() + b'"}', b"9" * 5_000, b"<a>&b;</a>", b"\x80\x04\x95", b"\0" * 40,
)  # fmt: skip
_junk = st.binary(max_size=30).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b""))
_value = st.one_of(_junk.map(lambda raw: raw + CANARY.encode()), st.sampled_from([b"", b"x" * 7_000, CANARY.encode()]))
_header = st.one_of(
    st.tuples(
        st.sampled_from(
            [b"Idempotency-Key", b"Content-Encoding", b"Content-Type", b"Accept", b"X-Forwarded-For", b"Last-Event-ID",
             b"traceparent", b"Cookie", b"Origin", b"Sec-Fetch-Site", b"If-Match", b"Range", b"X-Canary", b"Forwarded",
             b"Accept-Language", b"X-HTTP-Method-Override", b"Authorization", b"baggage", b"tracestate"]
        ),
        _value,
    ),
    st.sampled_from(
        [(b"Prefer", b"wait=0"), (b"Content-Encoding", b"gzip"),
         (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"),
         (b"Last-Event-ID", b"999999999999999"), (b"Accept", b"text/html;q=9"), (b"X-Forwarded-For", b"1.2.3.4, ::1"),
         (b"Content-Type", b"application/json; charset=utf-16"), (b"Content-Type", b"text/plain"),
         (b"Content-Type", b"multipart/form-data; boundary=x"), (b"Expect", b"x")]
    ),
)  # fmt: skip
_names = ("limit", "cursor", "state", "run_id", "subject", "after", "while_connected", "code", "iss", "x")
_percent = st.sampled_from(
    [b"%ff%fe", b"%00", b"%", b"%zz", b"%c0%af", b"%ed%a0%80", b"%F0%9F%98%80", b"+", b"a" * 4_000]
)
_pair = st.tuples(
    st.sampled_from(_names), st.one_of(_text, st.sampled_from(["0", "1", "200", "-1", "1e3", "true"]))
).map(lambda pair: urlencode([pair], errors="surrogatepass").encode())
_query = st.lists(
    st.one_of(_pair, st.tuples(st.sampled_from(_names), _percent).map(lambda p: p[0].encode() + b"=" + p[1])),
    min_size=1, max_size=5,
).map(b"&".join)  # fmt: skip
_place = st.one_of(
    st.just(CANARY), st.just("00000000-0000-7000-8000-000000000000"), st.text("a-f0.~'%;é", max_size=30),
    st.sampled_from(["..", ".", "%2e%2e%2f", "%00", "%ff", "%0d%0aX: y", "x" * 3_000]),
    st.sampled_from([f"tool:{CANARY}", "runs", "model:x"]),
)  # fmt: skip


def requests(routes: Sequence[Route], known: dict[str, str]) -> st.SearchStrategy[Drawn]:
    """For any of these routes, with these ids in the places of objects that are there."""
    return st.sampled_from(list(routes)).flatmap(lambda route: _for(route, known))


@st.composite
def _for(draw: st.DrawFn, route: Route, known: dict[str, str]) -> Drawn:
    known = {**known, "new": draw(st.one_of(st.just(CANARY), st.text("abcdefgh", min_size=6, max_size=12)))}
    name = f"{route.method} {route.path}"
    path = route.at(**{**known, "name": f"tool:{CANARY}", "model_id": EVERYBODYS.get(name, "")})
    query = urlencode(filled(QUERIES.get(name, {}), known)).encode() if draw(st.booleans()) else b""
    key = b"%032x" % draw(st.integers(0, 2**64))
    headers: Headers = ((b"Host", b"x"), (b"Idempotency-Key", key))
    request = Drawn(route.method, name, path, query, headers, b"")
    good = filled(FORMS.get(name, {}) if route.path.startswith("/console") else BODIES.get(name, {}), known)
    if route.method not in {"GET", "DELETE"} or draw(st.integers(0, 9)) == 0:
        request = _with_body(draw, route, request, good)
    for _ in range(draw(st.sampled_from([0, 0, 1, 1, 2, 3]))):
        request = draw(st.sampled_from(SPOILERS))(draw, route, request, known)
    return request


def _with_body(draw: st.DrawFn, route: Route, request: Drawn, good: dict[str, Any]) -> Drawn:
    form = route.path.startswith("/console")
    document = draw(st.one_of(st.just(good), _changed(good), _changed(good), _json))
    if form:
        fields = document if isinstance(document, dict) else {"key": document}
        body = urlencode({**fields, "csrf": "<csrf>"}, errors="surrogatepass").encode()
    else:
        body = json.dumps(document, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    return replace(request, headers=(*request.headers, (b"Content-Type", (FORM if form else JSON).encode())), body=body)


@st.composite
def _changed(draw: st.DrawFn, good: dict[str, Any]) -> dict[str, Any]:
    """The document with a field of it, of any depth, changed, taken out or put in."""
    made: dict[str, Any] = json.loads(json.dumps(good))
    place: Any = made
    while isinstance(place, dict) and place:
        name = draw(st.sampled_from(sorted(place)))
        inner = place[name][0] if isinstance(place[name], list) and place[name] else place[name]
        if isinstance(inner, dict) and draw(st.booleans()):
            place = inner
            continue
        how = draw(st.sampled_from(["text", "text", "any", "list", "out", "more"]))
        if how == "out":
            del place[name]
        else:
            value = draw(_text if how in {"text", "list"} else _json)
            place[draw(st.sampled_from(_names)) if how == "more" else name] = [value] if how == "list" else value
        break
    return made


def _body(draw: st.DrawFn, _route: Route, request: Drawn, _known: dict[str, str]) -> Drawn:
    raw = draw(
        st.one_of(st.sampled_from(HOSTILE), st.binary(max_size=60), st.just(gzip.compress(request.body, mtime=0)))
    )
    return replace(request, body=raw)


def _with_header(draw: st.DrawFn, _route: Route, request: Drawn, _known: dict[str, str]) -> Drawn:
    """One more, often one that is there already, or in the place of it."""
    name, value = draw(_header)
    kept = request.headers if draw(st.booleans()) else tuple(h for h in request.headers if h[0] != name)
    return replace(request, headers=(*kept, (name, value)))


def _with_query(draw: st.DrawFn, _route: Route, request: Drawn, _known: dict[str, str]) -> Drawn:
    return replace(request, query=draw(_query))


def _elsewhere(draw: st.DrawFn, route: Route, request: Drawn, known: dict[str, str]) -> Drawn:
    if not route.parameters:
        return _with_query(draw, route, request, known)
    place = draw(_place)
    return replace(request, path=route.at(**dict.fromkeys(route.parameters, quote(place, safe="%:"))))


Spoiler = Callable[[st.DrawFn, Route, Drawn, dict[str, str]], Drawn]
SPOILERS: list[Spoiler] = [_body, _with_header, _with_header, _with_query, _with_query, _elsewhere]
