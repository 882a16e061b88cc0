"""The Cache-Control header of a request, read as RFC 9111 says."""

from datetime import timedelta

import pytest

from app.api.cache_control import cache_policy
from app.errors import RequestInvalid
from app.gateway.cache import ANY_AGE, CachePolicy


def _s(seconds: int) -> timedelta:
    return timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "header", ["", "x", "no-transform", "private, public", ",,,", '"', 'x="no-cache"', "xno-cache"]
)
def test_what_says_nothing_about_kept_answers_asks_for_nothing(header: str) -> None:
    assert cache_policy(header) == CachePolicy()


@pytest.mark.parametrize("header", ["no-cache", "No-Cache", "a=b ,no-cache", 'no-cache="x"', "max-age=9, no-cache"])
def test_no_cache_wins_in_any_spelling(header: str) -> None:
    policy = cache_policy(header)
    assert (policy.requested, policy.may_serve, policy.may_store) == (False, False, True)


def test_no_store_is_neither_given_nor_kept() -> None:
    policy = cache_policy("max-age=60, no-store")
    assert (policy.requested, policy.may_serve, policy.may_store) == (False, False, False)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("max-age=60", 60), ('max-age="60"', 60), ("MAX-AGE=60,foo", 60), ("max-age=60, max-age=30", 30),
        ("max-age=30, max-age=60", 30), ("max-age=99999999999999999999", 2**31), ("x=1;max-age=60, max-age=5", 5),
    ],
)  # fmt: skip
def test_an_age_is_read(header: str, seconds: int) -> None:
    assert cache_policy(header).max_age == _s(seconds)
    assert cache_policy(header).requested


@pytest.mark.parametrize(
    "header", ["max-age=0", "max-age", "max-age=", "max-age=-1", "max-age=1.5", "max-age=٣", "max-age=x"]
)
def test_an_age_that_cannot_be_read_is_none_at_all(header: str) -> None:
    policy = cache_policy(header)
    assert (policy.requested, policy.may_serve) == (False, False)


def test_the_other_directives() -> None:
    assert cache_policy("max-stale").max_stale == ANY_AGE
    assert cache_policy("max-stale=9").max_stale == _s(9)
    assert cache_policy("min-fresh=9").min_fresh == _s(9)
    assert cache_policy("stale-if-error=9").stale_if_error == _s(9)
    with pytest.raises(RequestInvalid, match="only-if-cached"):
        cache_policy("only-if-cached")
