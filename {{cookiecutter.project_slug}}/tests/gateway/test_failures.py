"""What a provider's failure is called here, and how long it asks to wait."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic_ai.exceptions import ModelHTTPError

from app.errors import AppError
from app.gateway.failures import classified, retry_after


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, "max_tokens is too small", "provider.rejected"),
        (400, "context_length_exceeded", "model.context_too_long"),
        (401, "", "provider.auth_failed"),
        (404, "", "provider.rejected"),
        (408, "", "provider.timeout"),
        (413, "request_too_large", "model.context_too_long"),
        (429, "", "provider.rate_limited"),
        (429, "insufficient_quota", "provider.quota_exhausted"),
        (500, "", "provider.unavailable"),
        (502, "", "provider.unavailable"),
        (529, "", "provider.overloaded"),
    ],
)
def test_a_status_has_one_name(status: int, body: str, code: str) -> None:
    told = classified(ModelHTTPError(status, "m", body, headers={"retry-after": "7"}))
    assert isinstance(told, AppError)
    assert told.row.code == code
    assert told.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "3"}, 3),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "1e9"}, 86_400),
    ],
)
def test_seconds_are_read(headers: dict[str, str], seconds: float) -> None:
    assert retry_after(headers) == timedelta(seconds=seconds)


def test_a_date_is_read() -> None:
    told = retry_after({"retry-after": format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)})
    assert told is not None
    assert timedelta(seconds=25) < told <= timedelta(seconds=30)
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == timedelta()


@pytest.mark.parametrize("text", ["", "soon", "-1", "nan", "inf", "-Infinity", "99999999999999999999 Oct"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert retry_after({"retry-after": text}) is None
