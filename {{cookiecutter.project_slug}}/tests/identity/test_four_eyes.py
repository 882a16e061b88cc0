"""Whose credential may be whose: one rule for approvals and elevations."""

import pytest

from app.config_files import SettingsInvalid
from app.errors import Forbidden
from app.identity.four_eyes import DISTINCT_HOLDERS, DISTINCT_MEMBERS, Asker, rule_between
from app.identity.principal import Principal
from app.settings import load_settings

NOBODY: frozenset[str] = frozenset()


def _decider(hands: frozenset[str] | None) -> Principal:
    return Principal("tenant", "decider", "name", frozenset(), frozenset(), "key", hands=hands)


@pytest.mark.parametrize(
    ("chain", "hands"),
    [
        (["decider"], NOBODY),
        ([], frozenset({"asker"})),
        (["admin"], frozenset({"admin"})),
        (["admin", "other"], frozenset({"third", "other"})),
        (None, NOBODY),
        ([], None),
        (None, None),
    ],
)
def test_possible_holders_overlap_or_are_not_on_record(chain: list[str] | None, hands: frozenset[str] | None) -> None:
    with pytest.raises(Forbidden, match="app keys issue"):
        rule_between(Asker("asker", chain), _decider(hands), strict=True)
    assert rule_between(Asker("asker", chain), _decider(hands), strict=False) == DISTINCT_MEMBERS


def test_distinct_holders_are_named_under_either_setting() -> None:
    for strict in (True, False):
        assert rule_between(Asker("asker", ["a"]), _decider(frozenset({"b"})), strict=strict) == DISTINCT_HOLDERS


def test_nobody_decides_about_their_own_request_under_either_setting() -> None:
    for strict in (True, False):
        for chain in ([], ["a"], None):
            with pytest.raises(Forbidden, match="another person"):
                rule_between(Asker("decider", chain), _decider(NOBODY), strict=strict)


def test_a_principal_of_unknown_making_counts_as_unknown() -> None:
    made = Principal("tenant", "decider", "name", frozenset(), frozenset(), key_id="")
    assert made.persons is None
    assert made.issuer_chain is None


def test_the_rule_is_on_by_default_and_stays_on_beside_a_provider() -> None:
    assert load_settings(environment="test").require_distinct_key_holders
    provider = {"oidc_issuer": "https://i.example", "oidc_audience": "a", "oidc_jwks_url": "https://i.example/jwks"}
    with pytest.raises(SettingsInvalid, match="REQUIRE_DISTINCT_KEY_HOLDERS: off only without OIDC_ISSUER"):
        load_settings(environment="test", require_distinct_key_holders=False, **provider)
