"""Model text is data: links, images and markup that would make a reader's program fetch or run something are cut out.

A model that has read a hostile document may answer with an image whose address carries what it read; a client that
renders the answer then sends it (EchoLeak, CVE-2025-32711). So an answer may point only at hosts from settings, however
the link is written: inline, by reference, as HTML, as an autolink or bare. What a Markdown parser and an HTML parser
see decides; the text is cut until they see nothing else. Gate: security.
"""

import html
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

REMOVED = "[link removed]"
# Two readings: some clients let markup through, some show it; what one of them hides from Markdown the other does not.
_MAX_NESTING = 100  # levels of blocks; what is nested deeper is seen by some renderer and not by these: it is refused
_PARSERS = tuple(
    MarkdownIt("commonmark", {"html": with_markup, "maxNesting": _MAX_NESTING}) for with_markup in (True, False)
)
_MARKUP = re.compile(r"<(?=[a-zA-Z/!?])")
# All that may begin with "<" and stay: plain formatting without addresses, an unknown name alone (`List<String>`), an
# autolink, which is judged as an address. Attributes are not parsed: parsers differ in how, and attackers know it.
_HARMLESS = re.compile(
    r"""</?(?:b|i|em|strong|p|br|hr|ul|ol|li|code|pre|table|thead|tbody|tr|th|td|su[bp]|h[1-6]|blockquote|del|ins|kbd|span|div
    |details|summary)(?:\s+(?:align|alt|class|colspan|dir|id|lang|rowspan|start|title)\s*=\s*(?:"[^"<>`]*"|'[^'<>`]*'))*\s*/?>
    |</?(?!(?:a|animate|applet|area|audio|base|bgsound|body|button|dialog|embed|form|frame|frameset|head|html|iframe|image|img
    |input|keygen|link|listing|marquee|math|meta|noembed|noframes|noscript|object|picture|plaintext|portal|script|select|slot
    |source|style|svg|template|textarea|title|track|video|xmp)>)[a-z][a-z0-9]{0,40}>
    |<https?://[^\s<>]+>""",
    re.IGNORECASE | re.VERBOSE,
)
# An address as a person would see it, up to where any renderer would end it.
_REST = r"""[^\s<>"'`|)\]{}]+"""
_BARE = re.compile(rf"(?:[a-z][a-z0-9+.\-]{{0,30}}:)?[/\\]{{2,}}{_REST}|(?<![A-Za-z0-9])www\.{_REST}", re.IGNORECASE)
# A browser reads an authority up to one of these alone: `https://good.example'@evil.example` is at evil.example (WHATWG
# URL, authority state), and quotes, brackets and a no-break space may stand in the name of a user or of a host.
_MAX_AUTHORITY = 2_000  # characters; no host with its user is longer
_END_OF_AUTHORITY = re.compile(r"[ \t\n\r\f<>/?#\\]")
_NO_PATH_YET = re.compile(r"(?:[a-z][a-z0-9+.\-]*:)?[/\\]*[^/\\?#]*\Z", re.IGNORECASE)
_SPACE = re.compile(r"[ \t\n\r\f<>]")
_IN_BRACKETS = re.compile(rf"<(?:{_BARE.pattern})>", re.IGNORECASE)
_SCHEME = re.compile(
    r"(?<![a-z0-9])(?:(?:javascript|vbscript|file|blob|filesystem|mailto|tel|sms|intent|xmpp|https?|ftp|wss?):"
    rf"|data:(?=[^\s,]{{0,200}},)){_REST}",
    re.IGNORECASE,
)
_DESTINATION = re.compile(r"(\]\s{0,20}\()[^)\n]{0,2000}\)|(?<=\])(:[ \t]*+\n?[ \t]*+)\S+")
_OBSCURED = re.compile(r"&(?:#\d{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,30});|\\(?=[^\w\s])", re.IGNORECASE)


class Links:
    """The addresses an answer may contain: exact hosts over https, and http where a host is listed with it."""

    def __init__(self, allow: Iterable[str]) -> None:
        """`allow` lists origins such as `https://docs.example.com`. Raises ValueError for anything else."""
        self._origins = frozenset(_origin(item) for item in allow)

    def sanitised(self, value: Any) -> Any:
        """The same JSON value, with every string in it, keys included, safe to render as Markdown or HTML."""
        match value:
            case str():
                return self.safe(value)
            case dict():
                return {self.safe(str(key)): self.sanitised(item) for key, item in value.items()}
            case list() | tuple():
                return [self.sanitised(item) for item in value]
        return value

    def safe(self, text: str) -> str:
        """The text unchanged when it points nowhere else; otherwise without what does."""
        if not self._reaches_out(text):
            return text
        for cut in (self._without_addresses, self._without_obscured, self._without_destinations, _without_markup):
            text = cut(text)
            if not self._reaches_out(text):
                return text
        return re.sub(r"[<>\[\]()`:\\/&]", " ", text)  # nothing a renderer could act on is left

    def allows(self, address: str) -> bool:
        """Whether an answer may point there: an exact origin, or a place within the answer itself."""
        if address.startswith("#"):
            return True
        if re.search(r"[\x00-\x20\\]", address):  # browsers repair these, each in its own way
            return False
        try:
            parts = urlsplit(address)
            origin = (parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 0))
        except ValueError:
            return False
        return origin in self._origins and parts.username is None and parts.password is None

    def _reaches_out(self, text: str) -> bool:
        if not _may_reach_out(text):
            return False
        try:
            return not all(map(self.allows, _addresses(text))) or _has_active_markup(text)
        except _TooDeep:
            return True

    def _without_addresses(self, text: str) -> str:
        for form in (_IN_BRACKETS, _BARE, _SCHEME):
            parts, at = [], 0
            while found := form.search(text, at):
                parts.append(text[at : found.start()])
                address, at = _longest(found), found.end()
                if address != found[0]:
                    space = _SPACE.search(text, at)
                    at = space.start() if space else len(text)
                parts.append(found[0] if self.allows(_trimmed(address)) else REMOVED)
            text = "".join([*parts, text[at:]])
        return text

    def _without_obscured(self, text: str) -> str:
        """Entities and escapes can spell an address that its pattern does not see: say them plainly, then look."""
        return self._without_addresses(_OBSCURED.sub(lambda found: html.unescape(found[0]).replace("\\", ""), text))

    def _without_destinations(self, text: str) -> str:
        def cut(found: re.Match[str]) -> str:
            return f"{found[1]}{REMOVED})" if found[1] else f"{found[2]}{REMOVED}"

        return _DESTINATION.sub(cut, text)


class _TooDeep(Exception):
    """A text whose nesting no reading here can follow to its end."""


_PORTS = {"http": 80, "https": 443}


def _origin(item: str) -> tuple[str, str, int]:
    parts = urlsplit(item)
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError(f"{item} is not an origin such as https://docs.example.com")
    return parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme]


def _trimmed(address: str) -> str:
    """Without what a sentence or Markdown puts behind an address."""
    return address.lstrip("<").rstrip(".,;:!?*_~)]}>")


def _longest(found: re.Match[str]) -> str:
    """An address as the reader that takes most of the text for it: with what could still belong to its authority."""
    if not _NO_PATH_YET.match(found[0]):
        return found[0]
    most = found.end() + _MAX_AUTHORITY
    end = _END_OF_AUTHORITY.search(found.string, found.end(), most)
    rest = found.string[found.end() : end.start() if end else most]
    if end is None and len(found.string) > most:
        return found[0] + rest  # judged as it is, and refused
    is_user = "@" in rest
    is_host = bool(rest) and not rest[0].isspace() and re.search(r"[.\u3002\uff0e\uff61]\w", rest) is not None
    return found[0] + rest if is_user or is_host else found[0]


def _may_reach_out(text: str) -> bool:
    """Cheap and generous: most strings hold none of these."""
    return re.search(r"[<:\]\\&]|//|www\.", text, re.IGNORECASE) is not None


def _addresses(text: str) -> Iterator[str]:
    """Every address that Markdown, HTML or an auto-linker could take from the text."""
    for token in _tokens(text):
        for name in ("href", "src"):
            if name in token.attrs:
                yield unquote(str(token.attrs[name])) if _is_odd(str(token.attrs[name])) else str(token.attrs[name])
    plain = re.sub(r"[\x00-\x08\x0e-\x1f]", "", html.unescape(text))
    for form in (_BARE, _SCHEME):
        for reading in (plain, re.sub(r"\\(?=[^\w\s])", "", plain)):
            yield from (_trimmed(_longest(found)) for found in form.finditer(reading))


def _is_odd(address: str) -> bool:
    return "%5c" in address.lower() or "%0" in address.lower()


def _tokens(text: str) -> Iterator[Any]:
    """As it stands, and without the indentation that a client may strip."""
    for parser in _PARSERS:
        for reading in dict.fromkeys((text, re.sub(r"(?m)^[ \t>]+", "", text))):
            for block in parser.parse(reading):
                if block.level >= _MAX_NESTING - 2:  # a level more, and the parser would have left it out
                    raise _TooDeep
                yield block
                yield from _below(block)


def _below(token: Any) -> Iterator[Any]:
    for child in token.children or ():
        yield child
        yield from _below(child)


def _has_active_markup(text: str) -> bool:
    return any(not _HARMLESS.match(text, found.start()) for found in _MARKUP.finditer(text))


def _without_markup(text: str) -> str:
    return _MARKUP.sub(lambda found: "<" if _HARMLESS.match(text, found.start()) else "&lt;", text)
