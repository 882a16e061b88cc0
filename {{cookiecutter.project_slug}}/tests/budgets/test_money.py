"""Amounts as text: the contract's bound is the very number that the service compares with."""

import re
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from app.budgets.money import pattern_at_most, to_micro

AMOUNTS = st.from_regex(r"\A(0|[1-9][0-9]{0,3})(\.[0-9]{1,6})?\Z")


@given(most=st.integers(0, 2_000_000_000), amount=AMOUNTS)
@example(most=500_000, amount="0.5")
@example(most=500_000, amount="0.500001")
@example(most=0, amount="0.0")
@example(most=20_000_000, amount="20")
@example(most=10_000_000, amount="9.999999")
def test_the_pattern_takes_what_is_not_above(most: int, amount: str) -> None:
    assert bool(re.search(pattern_at_most(most), amount)) == (to_micro(Decimal(amount)) <= most)


@given(amount=st.from_regex(r"\A[0-9.\-+e ]{0,12}\Z"))
def test_the_pattern_takes_plain_decimals_alone(amount: str) -> None:
    if re.fullmatch(r"(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?", amount) is None:
        assert re.search(pattern_at_most(1_999_999_999), amount) is None
