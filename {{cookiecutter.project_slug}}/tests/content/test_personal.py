"""Values with a form are found with it; near misses are left alone. `make benchmarks` measures both at length."""

import time

import pytest

from app.content.personal import LONGEST_PIECE, find, replaced

VALUES = {
    "email": "ada@mail.example", "iban": "DE89 3704 0044 0532 0130 00", "card": "4111-1111-1111-1111",
    "ssn": "536-90-4399", "ip": "2001:db8:85a3::8a2e:370:7334", "phone": "+44 20 7946 0958",
    "secret": "ghp_" + "a1" * 18,
}  # fmt: skip


@pytest.mark.parametrize("kind", VALUES)
def test_a_value_is_found_whole_wherever_it_stands(kind: str) -> None:
    value = VALUES[kind]
    for text in (value, f"Call {value}, please.", f'{{"a": "{value}"}}', f"({value})", f"a\n{value}\nb"):
        assert [(f.kind, text[f.start : f.end]) for f in find(text)] == [(kind, value)]


@pytest.mark.parametrize(
    "text",
    [
        "4111 1111 1111 1112", "DE89 3704 0044 0532 0130 02", "000-12-3456", "1.2.3",
        "2026-11-24T10:45:00.123456Z",
        "123e4567-e89b-12d3-a456-426614174000", "9fceb02d0ae598e95dc970b74767f19372d61af8", "978-3-16-148410-0",
        "10:45", "8ee54dc1-609c-4651-91ec-037565859223", "id=06869750-db0c-485f-8598-657861895243",
        "3c-22-fb-01-9a-7e-55-66",
    ],
)  # fmt: skip
def test_a_near_miss_is_left_alone(text: str) -> None:
    assert find(f"It says {text} here.") == []


@pytest.mark.parametrize(
    ("before", "value", "after", "kind"),
    [
        ("Please use ", "AT611904300234573201", " for the refund.", "iban"),
        ("", "DE89370400440532013000", " is it", "iban"),
        ("", "NL91 ABNA 0417 1643 00", " today or later", "iban"),
        ("", "4111 1111 1111 1111", " 12/27", "card"),
        ("", "4111111111111111", " 100 EUR", "card"),
        ("100 ", "4111-1111-1111-1111", " 123", "card"),
        ("", "378282246310005", " 1234 ok", "card"),
        ("", "4111.1111.1111.1111", " 2nd", "card"),
        ("iban_", "AT611904300234573201", "_2026.pdf", "iban"),
        ("NHS ", "943 476 5919", " 2nd floor", "id"),
        ("NHS ward 12 ", "943 476 5919", " 10:30", "id"),
        ("", "44051401359", " 9am", "id"),
        ("", "+43 664 1234567", " 2nd floor", "phone"),
        ("", "+44 7911 123456", " 10:30", "phone"),
        ("call ", "212 555 2368", " 9am", "phone"),
        ("from ", "10.1.2.3", "_x", "ip"),
    ],
)
def test_what_follows_a_value_does_not_hide_it(before: str, value: str, after: str, kind: str) -> None:
    """fault 35: a check behind a form that takes too much, and no shorter one tried."""
    text = before + value + after
    assert [(f.kind, text[f.start : f.end]) for f in find(text)] == [(kind, value)]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"card": 4111111111111111.0}', "card"), ("paid with 4.111111111111111E15", "card"),
        ("id,phone\n44051401359.0,x", "id"), ("\uff14" + "\uff11" * 15, "card"),
        ("\u0660\u0660\u0664\u0664 7911 123456", "phone"),
    ],
)  # fmt: skip
def test_a_number_is_found_however_its_digits_are_written(text: str, kind: str) -> None:
    """fault 35, 36: as a table or a library writes a large number, and in the digits of other scripts."""
    assert [found.kind for found in find(text)] == [kind]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("PuTTY-User-Key-File-3: ssh-rsa\nEncryption: none\nPrivate-Lines: 1\nAAAAgQCqGKukO1De7zhZj6", "AAAAgQCqGKuk"),
        ("machine api.example.com login ada password correcthorse", "correcthorse"),
        ('authorization: Digest username="ada", response="6629fae49393a05397450978507c4ef1"', "6629fae4"),
        ('Authorization: Hawk id="dh37fgj492je", mac="6R4rV5iE+NPoym+WwjeHzjAGXUtLNIxmo1vpMofpLAE="', "6R4rV5iE"),
    ],
)  # fmt: skip
def test_a_credential_is_found_whole_in_the_form_that_its_program_writes(text: str, secret: str) -> None:
    """fault 37"""
    assert secret not in replaced(text, lambda kind, _: f"[{kind}]")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("X-Api-Key: swordfishes", "secret"), ("curl -u alice:sesame example.com", "secret"),
        ("curl --user alice:sesame example.com", "secret"), ("auth-token: correct-horse", "secret"),
        ("aa:bb:cc:dd:ee:ff", "mac"), ("dead:beef::cafe", "ip"), ("fe:dc:ba:ab:cd:ef:fa:ce", "ip"),
        ("dsn = joe:sesame@tcp(db)/x", "secret"),
    ],
)  # fmt: skip
def test_a_value_without_a_digit_is_found_alone(text: str, kind: str) -> None:
    assert [found.kind for found in find(text)] == [kind]


@pytest.mark.parametrize("word", ["automatically", "numerous", "basically"])
def test_a_word_within_another_says_nothing_of_a_number(word: str) -> None:
    assert find(f"This is {word} 2025550143 of them.") == []


def test_a_value_at_the_seam_of_two_pieces_is_whole() -> None:
    for shift in range(LONGEST_PIECE - 30, LONGEST_PIECE + 10):
        text = "x " * (shift // 2) + "ada@mail.example" + " y" * 3_000
        assert replaced(text, lambda kind, _: f"[{kind}]").count("[email]") == 1


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("{'email': 'jane@example.com'}", "email"), ("_jane@example.com_", "email"), ("jane%40example.com", "email"),
        ("+49\u00a030\u00a0901820", "phone"), ("4111\u00a01111\u00a01111\u00a01111", "card"), ("10.1.2.3:8080", "ip"),
        ("ip:10.1.2.3", "ip"),
        ("00:1A:2B:3C:4D:5E: link down", "mac"), ("_00:1A:2B:3C:4D:5E_", "mac"), ("ip:2001:db8::1", "ip"),
        ("2001:db8::1: refused", "ip"), ("_192.168.1.10_", "ip"), ("_030 1234567_", "phone"),
        ("_+14155552671_", "phone"),
        ("_DE89370400440532013000_", "iban"), ("+1 415 555 2671", "phone"),
        ("device:3c:22:fb:01:9a:7e;", "mac"), ("de89370400440532013000", "iban"), ("sk_live_" + "a1b2" * 5, "secret"),
    ],
)  # fmt: skip
def test_neighbouring_shapes_are_found_too(text: str, kind: str) -> None:
    assert [found.kind for found in find(text)] == [kind]


SIZE = 100_000


def _cpu_of(text: str) -> float:
    began = time.process_time()
    find(text)
    return time.process_time() - began


@pytest.mark.parametrize(
    "piece",
    [
        " +12345678901234567890123456789a",
        "a@",
        "1 ",
        "+1 ",
        "eyJa.",
        "DE89 AAAA ",
        "1:",
        "(030) ",
        "1 2a",
        "+123456 2a",
        "call 123 456 7a ",
        "1.11",
        "PuTTY-User-Key-File-3:",
        "machine a login ",
        "authorization: a b=",
        "a.a@b.",
        "-----BEGIN ",
    ],
)
def test_hostile_text_takes_no_longer_than_it_should(piece: str) -> None:
    def cpu(size: int) -> float:
        """Seconds of this process alone, the least of five: what else the machine does is hardly in them."""
        text = (piece * size)[:size]
        return min(_cpu_of(text) for _ in range(5))

    # Eight times as much takes eight times as long, and 64 times as long where each part is compared with each.
    assert cpu(SIZE) < 24 * cpu(SIZE // 8) + 0.01
