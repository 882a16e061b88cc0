"""Credentials in free text: private keys, passwords in addresses and settings, headers, and the keys of vendors.

Each form is searched only where a fixed part of it stands in the text, and its repetitions are bounded: hostile text
costs time in proportion to its length. Gate: validation.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from app.content.vendor_keys import vendor_keys

Span = tuple[int, int]
MAX_KEY = 16_000  # characters of a private key: one of RSA with 16,384 bits has 12,700

_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----|---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----"
)
_PEM_END = re.compile(
    r"-----END (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----|---- END SSH2 ENCRYPTED PRIVATE KEY ----"
)
# Of a key without its end: lines of headers, then runs of base64 with no more than a line break between them.
_PEM_BODY = re.compile(
    r"(?:(?:\s|\\[nr]){0,8}(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset|MessageID|Subject|x-[\w-]{1,30}): ?"
    r"[^\r\n\\]{0,200}){0,8}(?:(?:[\s>|*\"',+]|\\[nrt]){0,12}[A-Za-z0-9+/=]{8,}+)*"
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d")
_PUTTY_END = re.compile(r"Private-MAC: ?[0-9a-f]{8,128}")
# Of one without its end: its lines of headers, and of base64.
_PUTTY_BODY = re.compile(
    r":[^\r\n]{0,100}(?:(?:[\s>|*]|\\[nrt]){1,12}(?:(?:Encryption|Comment|Public-Lines|Private-Lines|Key-Derivation|Argon2-\w{1,20})"
    r": ?[^\r\n\\]{0,200}|[A-Za-z0-9+/=]{8,}+)){0,400}"
)
_NOT_A_VALUE = r"(?![<{$%(\[*]|(?:null|none|true|false|undefined|required|optional|string|redacted)\b)"

# A fixed part, in lower case where the form ignores case; the form; its group that is the secret.
_FORMS: tuple[tuple[tuple[str, ...], re.Pattern[str]], ...] = (
    (  # user and password of an address: of a database, a queue, a page
        ("://",),
        re.compile(r"(?<=://)([^\s/:@\"'<>?#]{0,100}:[^\s/\"'<>?#]{1,256}@)(?=[^\s@])"),
    ),
    (  # of Go's drivers for MySQL
        ("@tcp(", "@unix("),
        re.compile(r"(?<![\w@:/.-])([\w.-]{1,64}:[^\s\"'<>@]{1,128}@)(?=(?:tcp|unix)\()"),
    ),
    (
        ("authorization", "api-key", "auth-token", "access-token"),
        re.compile(
            r"(?i)(?<![\w])(?:(?:proxy-)?authorization|[\w-]{0,20}(?:api-key|auth-token|access-token))[\"']?\s{0,3}[:=]\s{0,3}"
            r"[\"']?(?:(?:basic|bearer|token|digest|negotiate|ntlm|apikey|api-key|key|sso-key|genie\w+|aws4-[\w-]{1,30})\s{1,3})?"
            rf"((?<=\s){_NOT_A_VALUE}(?=[^\s\"']{{0,200}}\d|[^\s\"']{{16}})[^\r\n\"']{{6,4000}}"
            rf"|{_NOT_A_VALUE}[^\s\"',;]{{8,4000}})"
        ),
    ),
    (  # a scheme with parameters: Digest, Hawk, OAuth, Signature
        ("authorization",),
        re.compile(
            r"(?i)(?<![\w])(?:proxy-)?authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?"
            r"([\w-]{2,30}[ \t]{1,3}\w{1,40}=[^\r\n]{6,4000})"
        ),
    ),
    (  # of a .netrc
        ("login ",),
        re.compile(
            r"(?<!\S)(?:machine\s{1,8}\S{1,200}|default)\s{1,8}login\s{1,8}\S{1,100}\s{1,8}password\s{1,8}(\S{3,200})"
        ),
    ),
    (
        ("bearer ", "basic "),
        re.compile(r"(?i)(?<![\w-])(?:bearer|basic)\s{1,3}(?=[^\s\"']{0,200}\d)([\w.~+/-]{16,4000}={0,2})"),
    ),
    (("cookie:",), re.compile(r"(?i)(?<![\w-])(?:set-)?cookie:[ \t]{0,3}([^\r\n]{3,4000})")),
    (  # a setting: the sign stands right behind its name, so anything that looks like a value is one
        ("passw", "pwd", "passphrase"),
        re.compile(
            r"(?i)(?<![a-z])\w{0,40}?(?:password|passwd|passphrase|pwd)[\"']?(?:=|:=|=>|\s?[:=]\s?(?=[\"']))[\"']?"
            rf"{_NOT_A_VALUE}([^\s\"';,&<>]{{3,200}})"
        ),
    ),
    (  # a setting whose name says secret, and whose value has both letters and digits
        ("passw", "pwd", "passphrase", "secret", "token", "key", "credential", "sig=", "signature="),
        re.compile(
            r"(?i)(?<![a-z0-9])[\w.-]{0,40}?(?:password|passwd|passphrase|pwd|secret|token|api_?key|api-key|apikey|access_?key"
            r"|account_?key|private_?key|secret_?key|license_?key|encryption_?key|signing_?key|shared_?access_?key"
            r"|application_?key|consumer_?key|auth_?key|sharedaccesskey|subscription-key|credentials?|\bsig|signature)"
            rf"(?:[_-]?(?:id|value))?[\"'\]]{{0,2}}\s{{0,3}}(?:[:=]|:=|=>|\bis\b)\s{{0,3}}[\"'`]?{_NOT_A_VALUE}"
            r"(?=[^\s\"'`;,&<>]{0,199}\d)(?=[^\s\"'`;,&<>]{0,199}[A-Za-z])([^\s\"'`;,&<>()]{8,200})"
        ),
    ),
    (("kty",), re.compile(r"\"(?:d|p|q|dp|dq|qi|k)\"\s{0,3}:\s{0,3}\"([\w-]{20,1400})\"")),  # private parts of a JWK
    (("curl ", "--user", "-u "), re.compile(r"(?<!\S)(?:-u|--user)[ =]?[\"']?([\w.@-]{1,64}:[^\s\"']{3,128})")),
    (  # three parts in base64url, the first two of them JSON: a signed or encrypted token
        ("eyJ",),
        re.compile(r"(?<![\w-])(eyJ[\w-]{8,4000}+\.[\w-]{0,8000}+(?:\.[\w-]{0,8000}+){1,3})"),
    ),
)
# What vendors of today have in common: a short name, a separator, then letters of both cases and digits at random.
_NAMED = re.compile(
    r"(?<![A-Za-z0-9_/+.=-])([a-z][a-z0-9]{1,9}(?:[_-][a-z0-9]{1,8}){0,3}[_-])([A-Za-z0-9]{24,120})(?![A-Za-z0-9/+=])"
)
_LONG = re.compile(r"\w{24}")
# Names of things that are no secrets, in the interfaces of providers and payment services.
_IDENTIFIERS = frozenset({
    "acct", "asst", "batch", "call", "chatcmpl", "ch", "cmpl", "cs", "cus", "evt", "fc", "file", "ft", "ftjob", "gen",
    "in", "item", "modr", "msg", "msgbatch", "pi", "pm", "price", "prod", "req", "resp", "rs", "run", "srvtoolu",
    "step",    "sub", "thread", "toolu", "trace", "txn", "vs", "ws",
})  # fmt: skip


# Without one of these, a digit or a long word there is no credential in a text; all in lower case.
MARKS = ("private key", "putty-user-key", *(mark.lower() for marks, _ in _FORMS for mark in marks))


def credentials(text: str) -> Iterator[Span]:
    """Where credentials stand, in no particular order; one may stand within another."""
    yield from _private_keys(text)
    yield from _of_forms(text)


def _of_forms(text: str) -> Iterator[Span]:
    lowered = text.lower()
    for marks, form in _FORMS:
        if any(mark in (text if mark == "eyJ" else lowered) for mark in marks):
            yield from (match.span(1) for match in form.finditer(text))
    yield from vendor_keys(text)
    for match in _NAMED.finditer(text) if _LONG.search(text) else ():
        if match[1].rstrip("_-") not in _IDENTIFIERS and _is_random(match[2]):
            yield match.span()


def _is_random(text: str) -> bool:
    """Whether letters and digits follow each other as a generator lays them, and not as words and numbers do."""
    classes = "".join("d" if char.isdigit() else "u" if char.isupper() else "l" for char in text)
    changes = sum(one != other for one, other in pairwise(classes))
    return len(set(classes)) == 3 and changes >= 0.4 * (len(text) - 1)


def _private_keys(text: str) -> Iterator[Span]:
    if "PRIVATE KEY" in text:
        for match in _PEM.finditer(text):
            yield match.start(), _end_of_key(text, match.end(), _PEM_END, _PEM, _PEM_BODY)
    if "PuTTY-User-Key" in text:
        for match in _PUTTY.finditer(text):
            yield match.start(), _end_of_key(text, match.end(), _PUTTY_END, _PUTTY, _PUTTY_BODY)


def _end_of_key(text: str, start: int, end: re.Pattern[str], begin: re.Pattern[str], body: re.Pattern[str]) -> int:
    """Behind the mark of its end, where that comes before another key begins; else behind what looks like its body."""
    another = begin.search(text, start, start + MAX_KEY)
    closing = end.search(text, start, another.start() if another else start + MAX_KEY)
    if closing:
        return closing.end()
    said = body.match(text, start, start + MAX_KEY)
    return said.end() if said else start
