"""The Cache-Control header of a request (RFC 9111, 5.2.1; RFC 5861): which kept answers its sender accepts.

Gate: cost.
"""

import re
from datetime import timedelta
from typing import Annotated

from fastapi import Depends, Header, Request

from app.errors import RequestInvalid
from app.gateway.cache import ANY_AGE, CachePolicy

MAX_SECONDS = 2**31  # RFC 9111, 1.2.2: a greater number means this one
_DIRECTIVE = re.compile(
    r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:=(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*)))?\s*(?:,|$)|[^,]*,?"
)


def cache_policy(header: str) -> CachePolicy:
    """The header's meaning. Unknown directives are ignored; a number that cannot be read counts as 0, the strictest.

    Raises RequestInvalid for `only-if-cached`, which is not offered: ignoring it would spend money."""
    found = _directives(header)
    if "only-if-cached" in found:
        raise RequestInvalid("Cache-Control: only-if-cached is not offered; use max-age, max-stale or stale-if-error.")
    max_age = _seconds(found, "max-age")
    stale_if_error, max_stale = _seconds(found, "stale-if-error"), _seconds(found, "max-stale")
    if "max-stale" in found and not found["max-stale"]:
        max_stale = ANY_AGE
    never = "no-cache" in found or "no-store" in found or max_age == timedelta(0)
    wanted = (max_age, max_stale, stale_if_error, _seconds(found, "min-fresh"))
    return CachePolicy(
        requested=not never and any(wanted),
        may_serve=not never,
        may_store="no-store" not in found,
        max_age=max_age,
        min_fresh=_seconds(found, "min-fresh") or timedelta(0),
        max_stale=max_stale or timedelta(0),
        stale_if_error=stale_if_error,
    )


def _directives(header: str) -> dict[str, str]:
    """By lower-case name. Of a directive that is repeated the smallest argument counts."""
    found: dict[str, str] = {}
    for match in _DIRECTIVE.finditer(header):
        if match[1] is None:
            continue
        name, argument = match[1].lower(), match[2] if match[2] is not None else (match[3] or "")
        repeated = name in found and _number(found[name]) <= _number(argument)
        found[name] = found[name] if repeated else argument
    return found


def _seconds(found: dict[str, str], name: str) -> timedelta | None:
    return timedelta(seconds=_number(found[name])) if name in found else None


def _number(argument: str) -> int:
    digits = argument.strip()
    if not re.fullmatch(r"[0-9]+", digits):
        return 0
    return min(int(digits[:11]), MAX_SECONDS)


async def _of_request(
    request: Request,
    _documented: Annotated[
        str | None,
        Header(
            alias="Cache-Control",
            description="`max-age=N`: an answer kept for at most N seconds will do; `no-cache`: one made for this "
            "request; `no-store`: that, and it is not kept. Read as RFC 9111 says",
        ),
    ] = None,
) -> CachePolicy:
    # A header may come in several lines, which mean the same as one with commas (RFC 9110, 5.3).
    return cache_policy(", ".join(request.headers.getlist("cache-control")))


CacheControl = Annotated[CachePolicy, Depends(_of_request)]
