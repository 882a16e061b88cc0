"""Which tier answers a request: by how hard it looks, never above what its tenant may use, lower when money runs low.

What a request looks like is judged by its words and its shape, by no model: it costs nothing, takes microseconds, and
gives the same answer for the same request. `make benchmarks` measures how often a person would have chosen the same.
Gate: cost.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from app.budgets.caps import Payer
from app.budgets.ledger import Ledger

AUTO = "auto"  # as a tier: the router chooses
# Words for work in several steps of thought, by how far they point there. Beginnings of words, in several languages.
_THOUGHT = re.compile(
    r"\b(analy[sz]|anali[sz]|prove\b|proof|prov(?:e|ing)\b|beweis|deriv|design|architect|strateg|trade-?off|refactor|optimi[sz]"
    r"|evaluat|bewert|justif|begründ|compar|vergleich|contradict|widerspr|root cause|hypothes|scenario|reconstruct"
    r"|migrat|algorithm|complexity|formulate|generali[sz]|induction|forecast|recommend|assumption|step by step"
    r"|schritt für schritt|debug|deadlock|concurren|consensus|differential|essay|argue|defend|exploit|sensitiv)\w*",
    re.IGNORECASE,
)
# Words for work that takes some care: something is written, explained or weighed.
_CARE = re.compile(
    r"\b(write|draft|compose|explain|erklär|describe|beschreib|summari[sz]e|zusammenfass|plan\b|suggest|checklist"
    r"|advantages|reply to|answer the|read the|rewrite this paragraph|find the|minutes|policy|regular expression|sql"
    r"|function|code|test)\w*",
    re.IGNORECASE,
)
_SMALL = re.compile(
    r"^\W*(translate|traduis|übersetz|classify|tag\b|fix the spelling|extract|convert|count|list the|is this|which of"
    r"|what (?:is|does|year)|say\b|make this|remove|put these|give me \w+ synonyms|reply with|turn this|open a ticket"
    r"|search for)",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"```|\bdef \w+\(|\bclass \w+|\bfor \w+ in |[{};]\s*$|=>|\bSELECT\b|[A-Za-z]\([a-z]\) = ", re.MULTILINE
)
_LENGTHS = ((80, 0), (160, 6), (400, 12), (1_500, 18))  # characters, points
MOST = 100


@dataclass(frozen=True)
class Look:
    """What of a request is looked at."""

    text: str
    documents: int = 0  # characters of them
    tools: int = 0


def complexity(look: Look) -> int:
    """How hard a request looks, from 0 to 100."""
    thought = min(64, 16 * len({found.lower() for found in _THOUGHT.findall(look.text)}))
    care = min(24, 12 * len({found.lower() for found in _CARE.findall(look.text)}))
    length = max((points for least, points in _LENGTHS if len(look.text) > least), default=0)
    parts = min(12, 4 * (look.text.count(",") + look.text.count(";") + max(0, look.text.count("?") - 1)) // 2)
    code = 12 if _CODE.search(look.text) else 0
    read = 10 * (look.documents > 4_000) + 10 * (look.documents > 40_000)
    small = 20 if _SMALL.match(look.text) else 0
    return max(0, min(MOST, thought + care + length + parts + code + read + 2 * (look.tools > 3) - small))


@dataclass(frozen=True)
class Route:
    """Which tier, and why: what a run keeps of the decision."""

    tier: str
    asked: str
    most: str  # the tenant's
    complexity: int
    reason: str  # asked, complexity, tenant, budget

    def as_data(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Router:
    order: Sequence[str]  # tiers from cheap to strong
    least: Mapping[str, int]  # complexity from which a tier is chosen

    def route(self, asked: str, look: Look, *, most: str, tight: bool) -> Route:
        """Choose a tier. `most` is the highest that the tenant may use; `tight`: a budget is nearly used up.

        A tier that is none of `order` stands beside it: it is used as asked for."""
        hard = complexity(look)
        if asked != AUTO and asked not in self.order:
            return Route(asked, asked, most, hard, "asked")
        wanted, reason = (self._by(hard), "complexity") if asked == AUTO else (asked, "asked")
        place = self.order.index(wanted)
        if place > (ceiling := self.order.index(most)):
            place, reason = ceiling, "tenant"
        if tight and place > 0:
            place, reason = place - 1, "budget"
        return Route(self.order[place], asked, most, hard, reason)

    def above(self, route: Route) -> str:
        """The tier to which a request may climb once, if its own does not manage: the next, or the same."""
        if route.tier not in self.order or route.reason == "budget":
            return route.tier
        place = self.order.index(route.tier)
        return self.order[min(place + 1, self.order.index(route.most), len(self.order) - 1)]

    def _by(self, hard: int) -> str:
        chosen = self.order[0]
        for tier in self.order[1:]:
            if hard >= self.least.get(tier, MOST + 1):
                chosen = tier
        return chosen


@dataclass(frozen=True)
class Routing:
    """The router, with what it has to know of who pays."""

    router: Router
    ledger: Ledger
    most: str  # the strongest tier of a tenant without one of its own

    async def route(self, payer: Payer, asked: str, look: Look) -> Route:
        """Choose a tier for a call that this payer is charged."""
        if asked != AUTO and asked not in self.router.order:
            return self.router.route(asked, look, most=self.most, tight=False)
        standing = await self.ledger.standing(payer)
        most = standing.tier if standing.tier is not None and standing.tier in self.router.order else self.most
        return self.router.route(asked, look, most=most, tight=standing.is_tight)
