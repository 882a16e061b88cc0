"""What people say counts only with a name, a date in its time, and the catalogue's own words."""

import datetime as dt
from pathlib import Path

import pytest

from gates.attestations import AttestationsUnreadable, Said, load
from gates.catalogue import Catalogue

TODAY = dt.date(2026, 11, 24)
CATALOGUE = Catalogue.load()
GOOD = {
    "id": '"SEC-P1"',
    "statement": '"Secrets were rotated, and each has a named owner."',
    "person": '"Ada Lovelace"',
    "date": "2026-11-01",
    "expires": "2027-01-30",
    "evidence": '"https://wiki.example.com/secrets"',
}
WAIVER = {
    "gate": '"performance"',
    "people": '["Ada Lovelace", "Grace Hopper"]',
    "reason": '"twenty invited users until the load test"',
    "date": "2026-11-20",
    "expires": "2026-12-04",
}


def _load(folder: Path, kind: str, entry: dict[str, str]) -> Said:
    file = folder / "attestations.toml"
    file.write_text(f"[[{kind}]]\n" + "".join(f"{name} = {value}\n" for name, value in entry.items()))
    return load(CATALOGUE, TODAY, file)


def test_a_complete_attestation_counts(tmp_path: Path) -> None:
    assert list(_load(tmp_path, "attestation", GOOD).good) == ["SEC-P1"]


def test_the_shipped_file_says_nothing_and_its_examples_are_good(tmp_path: Path) -> None:
    shipped = (Path(__file__).resolve().parents[2] / "attestations.toml").read_text()
    assert load(CATALOGUE, TODAY) == Said()
    file = tmp_path / "examples.toml"
    file.write_text("\n".join(line.removeprefix("# ") for line in shipped.splitlines() if "=" in line or "[[" in line))
    said = load(CATALOGUE, dt.date(2026, 1, 6), file)
    assert (list(said.good), list(said.waived), said.refused) == (["SEC-P1"], ["performance"], {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": '"SEC-P9"'}, "no such statement"),
        ({"statement": '"All is well."'}, "not the catalogue's"),
        ({"date": "2026-11-25"}, "in the future"),
        ({"expires": "2026-10-01"}, "expires before it begins"),
        ({"expires": "2027-01-31"}, "90 days at most"),
        (
            {
                "id": '"TST-P1"',
                "statement": '"The golden set was labelled by at least two people, with their agreement on record."',
                "second_person": '"ada\u200b  lovelace"',
            },
            "two different people",
        ),
    ],
)
def test_an_incomplete_attestation_is_refused_with_its_reason(
    tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    said = _load(tmp_path, "attestation", GOOD | change)
    assert not said.good
    assert reason in next(iter(said.refused.values()))


def test_an_expired_attestation_is_stale_and_not_refused(tmp_path: Path) -> None:
    said = _load(tmp_path, "attestation", GOOD | {"date": "2026-08-01", "expires": "2026-10-01"})
    assert (list(said.expired), list(said.good), said.refused) == (["SEC-P1"], [], {})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"gate": '"security"'}, "cannot be waived"),
        ({"people": '["Ada", "ADA "]'}, "two different people"),
        ({"expires": "2026-12-05"}, "14 days at most"),
        ({"date": "2026-11-25"}, "in the future"),
        ({"date": "2026-11-01", "expires": "2026-11-10"}, "has expired"),
    ],
)
def test_a_waiver_outside_its_bounds_is_refused(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    assert list(_load(tmp_path, "waiver", WAIVER).waived) == ["performance"]
    said = _load(tmp_path, "waiver", WAIVER | change)
    assert not said.waived
    assert reason in next(iter(said.refused.values()))


@pytest.mark.parametrize(
    "entry", [{"id": '"SEC-P1"'}, GOOD | {"person": '"  "'}, GOOD | {"evidence": '" "'}, GOOD | {"extra": "1"}]
)
def test_a_file_that_is_none_is_named(tmp_path: Path, entry: dict[str, str]) -> None:
    with pytest.raises(AttestationsUnreadable, match=r"attestations\.toml: attestation\.0"):
        _load(tmp_path, "attestation", entry)
