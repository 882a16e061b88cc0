"""The operator's and the tenant's layer of a limit: what is in force, against a model, over any sequence of writes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

import anyio
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app.budgets.caps import Caps, CapsTable, Payer
from app.budgets.layers import LayeredLimit
from app.budgets.ledger import CallPurpose, Ledger, Used
from app.errors import BudgetExceeded, Forbidden
from app.identity.layers import Layer
from app.runtime import Runtime
from gates.rig import people

pytestmark = pytest.mark.anyio
CENT, DEFAULT = 10_000, 2_000 * 10_000
FILE = CapsTable(tenant_daily_usd=Decimal(10), tenant_monthly_usd=Decimal(20))  # as config/budgets.toml may say
PURPOSE = CallPurpose("assistant", "test-model", "v1")
LAYERS: tuple[Layer, ...] = ("operator", "tenant")
amounts = st.none() | st.integers(0, 10**9)


@given(operator=amounts, tenant=amounts, operator_frozen=st.booleans(), tenant_frozen=st.booleans())
def test_the_smaller_limit_is_in_force_and_either_layer_freezes(
    operator: int | None, tenant: int | None, *, operator_frozen: bool, tenant_frozen: bool
) -> None:
    limit = LayeredLimit(operator, tenant, operator_frozen, tenant_frozen)
    assert limit.effective_micro == min([each for each in (operator, tenant) if each is not None], default=None)
    assert limit.effective_micro == (tenant if limit.limited_by == "tenant" else operator)
    assert bool(limit.frozen_by) == (operator_frozen or tenant_frozen)
    assert ("operator" in limit.frozen_by) == operator_frozen


@pytest.fixture
def ledger(runtime: Runtime) -> Ledger:
    return replace(runtime.ledger, caps=Caps(FILE))


@dataclass
class Model:
    """What the two layers of one window are, in cents, by the rules of docs/ownership.md."""

    limit: dict[Layer, int | None] = field(default_factory=lambda: {"operator": None, "tenant": None})
    extra: dict[Layer, int] = field(default_factory=lambda: {"operator": 0, "tenant": 0})
    frozen: dict[Layer, bool] = field(default_factory=lambda: {"operator": False, "tenant": False})

    @property
    def operator(self) -> int:
        set_to = self.limit["operator"]
        return DEFAULT // CENT if set_to is None else set_to

    @property
    def totals(self) -> tuple[int, int | None]:
        own = self.limit["tenant"]
        return self.operator + self.extra["operator"], None if own is None else own + self.extra["tenant"]

    def write(self, layer: Layer, what: str, amount: int) -> bool:
        """Whether it is allowed; where it is not, nothing changes."""
        highest, own = self.totals
        if layer == "tenant" and what == "set" and amount > self.operator:
            return False
        if layer == "tenant" and what == "top up" and (own is None or own + amount > highest):
            return False
        if what == "top up":
            self.extra[layer] += amount
        elif what in {"freeze", "thaw"}:
            self.frozen[layer] = what == "freeze"
        else:
            self.limit[layer], self.extra[layer] = (amount if what == "set" else None), 0
        return True


async def _write(ledger: Ledger, payer: Payer, layer: Layer, what: str, amount: int) -> bool:
    who: dict[str, Any] = {"actor": "test", "layer": layer}
    try:
        if what == "top up":
            await ledger.top_up(payer, "tenant", amount * CENT, reason="test", **who)
        elif what in {"freeze", "thaw"}:
            await ledger.freeze(payer, "tenant", frozen=what == "freeze", reason="test", **who)
        else:
            limit = amount * CENT if what == "set" else None
            await ledger.set_cap(payer, "tenant", limit, **who)
    except Forbidden as refused:
        assert "operator" in refused.detail  # noqa: PT017 - any other refusal is a failure
        return False
    return True


async def _limit(ledger: Ledger, payer: Payer) -> LayeredLimit:
    return next(w.limit for w in await ledger.windows(payer) if (w.scope, w.period) == ("tenant", "month"))


writes = st.tuples(
    st.sampled_from(LAYERS), st.sampled_from(["set", "top up", "freeze", "thaw", "remove"]), st.integers(0, 2_500)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(writes, min_size=1, max_size=8), opened=st.integers(0, 8))
async def test_any_sequence_of_writes_leaves_what_the_model_says(
    runtime: Runtime, ledger: Ledger, sequence: list[tuple[Layer, str, int]], opened: int
) -> None:
    payer, model = Payer(await people.tenant(runtime), str(uuid4())), Model()
    for place, (layer, what, amount) in enumerate(sequence):
        if place == opened and not any(model.frozen.values()):  # from here on the window has a row
            await _opened(ledger, payer)
        allowed = await _write(ledger, payer, layer, what, amount)
        assert allowed == model.write(layer, what, amount), (layer, what, amount)
        operator, tenant = model.totals
        found = await _limit(ledger, payer)
        assert (found.operator_micro, found.tenant_micro) == (
            operator * CENT,
            None if tenant is None else tenant * CENT,
        )
        assert found.frozen_by == tuple(layer for layer in LAYERS if model.frozen[layer])


async def _opened(ledger: Ledger, payer: Payer) -> None:
    """Have the window made, by a call that costs nothing."""
    try:
        held = await ledger.reserve(payer, 0, PURPOSE)
    except BudgetExceeded:
        return
    await ledger.settle(held, Used(0, 0, 0))


async def test_the_limit_of_the_file_is_the_operators(runtime: Runtime, ledger: Ledger) -> None:
    payer = Payer(await people.tenant(runtime), str(uuid4()))
    with pytest.raises(Forbidden, match=r"the operator's: \$20\.00 a month"):
        await ledger.set_cap(payer, "tenant", DEFAULT + 1, actor="admin", layer="tenant")
    with pytest.raises(Forbidden, match=r"the operator's: \$10\.00 a day"):
        await ledger.set_cap(payer, "tenant", DEFAULT, actor="admin", layer="tenant", period="day")
    await ledger.set_cap(payer, "tenant", DEFAULT, actor="admin", layer="tenant")


async def test_both_layers_at_once_make_one_row_and_lose_nothing(runtime: Runtime, ledger: Ledger) -> None:
    payer = Payer(await people.tenant(runtime), str(uuid4()))
    async with anyio.create_task_group() as group:
        group.start_soon(_write, ledger, payer, "operator", "set", 500)
        group.start_soon(_write, ledger, payer, "tenant", "set", 300)
    assert await _limit(ledger, payer) == LayeredLimit(500 * CENT, 300 * CENT)


@contextmanager
def _statements() -> Iterator[list[str]]:
    """Whatever is said to a database meanwhile."""
    said: list[str] = []

    def listen(_connection: Any, _cursor: Any, text: str, *_: Any) -> None:
        said.append(text)

    event.listen(sa.Engine, "before_cursor_execute", listen)
    try:
        yield said
    finally:
        event.remove(sa.Engine, "before_cursor_execute", listen)


async def test_a_tenants_layer_costs_a_call_no_statement_more(runtime: Runtime, ledger: Ledger) -> None:
    """A hold with its settlement and a look say as much to the database with both layers set as with none."""
    counts = []
    nobody: tuple[Layer, ...] = ()
    for layers in (nobody, LAYERS):
        payer = Payer(await people.tenant(runtime), str(uuid4()))
        for layer in layers:
            await _write(ledger, payer, layer, "set", 500)
        await _opened(ledger, payer)
        with _statements() as said:
            await ledger.standing(payer)
            await _opened(ledger, payer)
        counts.append(len(said))
    assert counts[0] == counts[1] > 0
