"""The limit of one window as the operator and the tenant have set it: the smaller holds, frozen if either says so.

Gate: cost.
"""

from dataclasses import dataclass

from app.identity.layers import Layer


@dataclass(frozen=True, slots=True)
class LayeredLimit:
    """Micro-dollars, top-ups of that layer included. None: the layer sets no limit."""

    operator_micro: int | None
    tenant_micro: int | None = None
    operator_frozen: bool = False
    tenant_frozen: bool = False

    @property
    def effective_micro(self) -> int | None:
        """What may be spent; None where neither layer sets a limit."""
        return self.tenant_micro if self.limited_by == "tenant" else self.operator_micro

    @property
    def limited_by(self) -> Layer:
        """Whose limit is in force. The operator's where both are the same, and where there is none."""
        if self.tenant_micro is None:
            return "operator"
        return "tenant" if self.operator_micro is None or self.tenant_micro < self.operator_micro else "operator"

    @property
    def frozen_by(self) -> tuple[Layer, ...]:
        """The layers that have frozen it; a thaw of one leaves the other's freeze in force."""
        if not (self.operator_frozen or self.tenant_frozen):
            return ()
        both: tuple[tuple[Layer, bool], ...] = (("operator", self.operator_frozen), ("tenant", self.tenant_frozen))
        return tuple(layer for layer, frozen in both if frozen)
