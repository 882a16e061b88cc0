"""Which tier answers to a name that a caller gives as `model`: exactly, or by its beginning. Gate: validation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from app.errors import ModelNotFound

ANYTHING = "*"  # at the end of a declared name: whatever follows


@dataclass(frozen=True)
class ModelNames:
    models: Mapping[str, str]  # of each tier
    declared: Mapping[str, str]  # a name, or a beginning such as `gpt-4o*`, and the tier that answers
    others: Iterable[str] = ()  # that stand for themselves
    table: str = "[names]"  # of config/models.toml, where names are added

    @property
    def offered(self) -> list[str]:
        """The names to list: of a declared beginning, itself, unless it is no name, as `claude-` is."""
        beginnings = {name.removesuffix(ANYTHING) for name in self.declared}
        names = {name for name in beginnings if name[-1].isalnum()}
        return sorted({*self.models, *self.models.values(), *names, *self.others})

    def tier(self, name: str) -> str:
        """The tier that answers: its own name, a declared one, its model's, or the longest declared beginning.

        Raises ModelNotFound, naming what there is and where names are added."""
        if name in {*self.models, *self.others}:
            return name
        of_model = next((tier for tier, model in self.models.items() if model == name), None)
        if (tier := self.declared.get(name, of_model)) is not None:
            return tier
        beginnings = [each for each in self.declared if each.endswith(ANYTHING) and name.startswith(each[:-1])]
        if not beginnings:
            named = ", ".join([*self.others, *self.models, *sorted(self.declared)])
            raise ModelNotFound(
                f"That model is not offered here: choose from {named}. "
                f"Names are added in config/models.toml, below {self.table}."
            )
        return self.declared[max(beginnings, key=len)]
