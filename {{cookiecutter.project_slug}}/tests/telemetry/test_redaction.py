"""Secrets do not reach logs or Sentry, by name or by look."""

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from app.errors import NotFound, ProviderAuthFailed
from app.identity.tokens import generate
from app.telemetry import redaction
from app.telemetry.logs import configure_logs
from app.telemetry.redaction import MASK, protect, scrub
from app.telemetry.setup import before_send

KEY = generate("production").token
SECRETS = [
    KEY,
    "sk-" + "a1B2" * 8,
    "ghp_" + "a" * 36,
    "AKIA" + "A" * 16,
    "postgresql://app:hunter2@db/app",
    "someone@example.com",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers, root.level)
    yield
    root.handlers, root.level = before


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:4])
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    event = {"event": f"failed with {secret}!", "nested": [{"detail": secret}], "headers": ("x", secret)}
    text = json.dumps(scrub(event))
    assert secret not in text
    assert "hunter2" not in text
    assert MASK in text


def test_this_process_s_own_secrets_are_masked_whatever_they_look_like(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", [])
    assert scrub("lost: correct horse/battery") == "lost: correct horse/battery"
    protect(["correct horse/battery", "short"])
    assert scrub(["lost: correct horse/battery", "correct%20horse%2Fbattery", "short"]) == [
        f"lost: {MASK}",
        MASK,
        "short",
    ]


def test_a_sensitive_field_is_masked_whatever_it_holds() -> None:
    assert scrub({"Authorization": "plain", "api_key": 1, "task": "words", "state": "ok"}) == {
        "Authorization": MASK,
        "api_key": MASK,
        "task": MASK,
        "state": "ok",
    }


def test_logs_are_one_json_line_each_and_scrubbed(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logs("info")
    structlog.get_logger("test").info("two\r\nlines", note=KEY)
    logging.getLogger("third.party").warning("their %s", KEY)
    try:
        raise ValueError(KEY)  # noqa: TRY301
    except ValueError:
        structlog.get_logger("test").exception("crashed")
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all(json.loads(line) for line in lines)
    assert KEY not in "\n".join(lines)


def test_logs_for_people_are_scrubbed_as_well_and_nothing_in_them_steers_a_terminal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    configure_logs("info", "text")
    structlog.get_logger("test").info("two\r\nlines\x1b[2J", note=KEY, state="a\nb", other="\x1b[2J")
    logging.getLogger("third.party").warning("their %s", KEY)
    try:
        raise ValueError(f"{KEY}\x1b[2J")  # noqa: TRY301
    except ValueError:
        structlog.get_logger("test").exception("crashed")
    shown = capfd.readouterr().err
    first, second, third, *trace = shown.splitlines()
    assert "[info" in first
    assert r"state='a\nb'" in first
    assert r"other='\x1b[2J'" in first
    assert "third.party" in second
    assert "crashed" in third
    assert "ValueError" in "\n".join(trace)
    assert KEY not in shown
    assert "\x1b" not in shown


def test_the_engine_s_word_on_steps_that_several_tiers_share_is_no_warning() -> None:
    configure_logs("info")
    kept: list[str] = []
    engine, keeping = logging.getLogger("dbos"), logging.Handler()
    keeping.emit = lambda record: kept.append(record.getMessage())  # type: ignore[method-assign]
    engine.addHandler(keeping)  # the engine may have set handlers of its own in this process
    try:
        for name in ("assistant__model.request", "something_else"):
            engine.warning(f"Duplicate registration of function '{name}'. A function named …")
    finally:
        engine.removeHandler(keeping)
    assert len(kept) == 1
    assert "something_else" in kept[0]


def test_sentry_gets_what_pages_and_nothing_of_the_request() -> None:
    event = {"message": f"with {KEY}", "request": {"data": "body"}, "exception": {"values": [{"value": KEY}]}}
    kept = before_send(dict(event), {"exc_info": (ProviderAuthFailed, ProviderAuthFailed(), None)})  # type: ignore[arg-type]
    assert kept is not None
    assert KEY not in json.dumps(kept)
    assert "request" not in kept
    caller_s_own = before_send(dict(event), {"exc_info": (NotFound, NotFound(), None)})  # type: ignore[arg-type]
    assert caller_s_own is None
