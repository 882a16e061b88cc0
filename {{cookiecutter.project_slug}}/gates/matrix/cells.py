"""What a cell of the matrix is, what is declared for it, and whether what was seen is that."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from app.errors import Forbidden, Unauthenticated
from app.identity.roles import PLATFORM_PERMISSIONS
from gates.rig.routes import Route

Whose = Literal["own", "foreign"]
Declared = Literal["allowed", "denied", "missing", "hidden", "signed out", "public", "refused"]
NOBODY = "no credential"
ROLELESS = "no role"
ANY_MEMBER = "any member"
# What pages need, by hand: their guard is the session, and each asks for its permission itself.
PAGES = {
    "GET /console": ANY_MEMBER,
    "POST /console/sign-out": ANY_MEMBER,
    "POST /console/approvals": "approvals:decide",
    "POST /console/keys": "keys:self",
    "POST /console/key-claims": "keys:redeem",
    "POST /console/unknown/{call_id}": "approvals:decide",
}
# Answers that are no 2xx and yet not about who asks, each with its reason.
OTHER_ANSWERS: dict[str, tuple[int, str]] = {
    "POST /console/approvals": (303, "forms lead back to the page, which says what came of them"),
    "POST /console/unknown/{call_id}": (303, "forms lead back to the page, which says what came of them"),
    "POST /v1/elevations": (409, "one question at a time: the second cell of a role asks again"),
    "POST /console/sign-out": (303, "leads to the page to sign in"),
    "POST /console/sign-in": (401, "no key is given"),
    "GET /console/sign-in/provider": (303, "sends the browser to the provider"),
    "GET /console/signed-in": (401, "this browser has begun no sign-in"),
}
# Where nothing says so at once that an object is missing; the answer is still the same for a foreign one.
MISSING: dict[str, tuple[int, str]] = {
    "POST /v1/approvals/decisions": (200, "each item says for itself what became of it"),
    "GET /v1/approvals": (200, "a filter that nothing fits"),
    "GET /v1/audit": (200, "a filter that nothing fits"),
    "POST /console/approvals": (409, "the form comes back with what was typed, and says it"),
    "POST /console/key-claims": (303, "the page that follows says it"),
}


# What operators of the platform change of a tenant that is not theirs.
OTHERS = {"PATCH /v1/tenants/{tenant_id}": "the tier of models that a tenant may use"}


@dataclass(frozen=True)
class Cell:
    role: str
    method: str
    path: str
    whose: Whose
    declared: Declared

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def shown(self) -> str:
        return f"{self.role}, {self.whose}: {self.name}"


@dataclass(frozen=True)
class Seen:
    status: int
    code: str = ""  # of the problem, where it is one
    detail: str = ""
    like_missing: bool = True  # the answer is the one for an object that nobody has
    leaked: Sequence[str] = ()  # another tenant's ids in the answer
    showed: bool = True  # the answer shows what it is about
    did: bool = False  # something of one's own tenant, or of the platform, is not as it was
    hurt: bool = False  # something of another tenant's is not as it was


def needs(route: Route, by_hand: Mapping[str, str]) -> str | None:
    """The permission that is declared: by hand for the template's own routes, by its guard for a feature's."""
    name = f"{route.method} {route.path}"
    return PAGES.get(name) if route.is_console else by_hand.get(name, route.permission)


def declare(
    route: Route, needed: str | None, role: str, whose: Whose, holders: Mapping[str, Sequence[str]], *, about_one: bool
) -> Cell:
    """What is declared for this cell, of a route that needs this permission. What nothing declares is denied.

    `about_one`: a request says which object it is about."""

    def what() -> Declared:
        if route.is_public:
            return "public"
        if role == NOBODY:
            return "signed out"
        if needed != ANY_MEMBER and role not in holders.get(needed or "", ()):
            return "denied"
        if whose == "own" or needed in PLATFORM_PERMISSIONS:
            return "allowed"
        return "missing" if about_one else "hidden"

    return Cell(role, route.method, route.path, whose, what())


def deviation(cell: Cell, seen: Seen, *, guessed: bool = False) -> str:
    """What of it is not as declared; empty where all is.

    `guessed`: a feature's route, whose objects and bodies nobody here knows; that it was let in shows in any answer of
    its own."""
    if seen.status >= 500 or seen.status == 429:
        return f"{seen.status}: a failure or a limit shows nothing about access"
    meant = cell.declared == "allowed" and cell.whose == "foreign" and cell.name in OTHERS
    if seen.hurt and not meant:
        return "changed something of another tenant"
    if seen.leaked:
        return f"shows another tenant's {', '.join(seen.leaked)}"
    if guessed and seen.status == 422 and cell.declared in {"allowed", "hidden", "missing"}:
        return ""  # a body that no table here knows
    if _AS_DECLARED[cell.declared](cell, seen, guessed):
        return ""
    facts = {"like a missing one": seen.like_missing, "shown": seen.showed, "changed something": seen.did}
    told = ", ".join(name if true else f"not {name}" for name, true in facts.items())
    return f"declared {cell.declared}, answered {seen.status} {seen.code} ({told})"


def _let_in(cell: Cell, seen: Seen, _guessed: bool) -> bool:
    return 200 <= seen.status < 300 or seen.status == OTHER_ANSWERS.get(cell.name, (0, ""))[0]


def _allowed(cell: Cell, seen: Seen, guessed: bool) -> bool:
    if guessed:
        return _let_in(cell, seen, guessed) or seen.status == 404
    return _let_in(cell, seen, guessed) and (seen.showed if cell.method == "GET" else seen.did or seen.hurt)


def _denied(_cell: Cell, seen: Seen, _guessed: bool) -> bool:
    plain = (seen.status, seen.code, seen.detail) == (403, Forbidden.row.code, Forbidden.row.title)
    return plain and not seen.did


def _missing(cell: Cell, seen: Seen, guessed: bool) -> bool:
    status = 404 if guessed else MISSING.get(cell.name, (404, ""))[0]
    return seen.status == status and seen.like_missing and not seen.did


def _signed_out(cell: Cell, seen: Seen, _guessed: bool) -> bool:
    wanted = (303, "") if cell.path.startswith("/console") else (401, Unauthenticated.row.code)
    return (seen.status, seen.code) == wanted and not seen.did


def _refused(_cell: Cell, seen: Seen, _guessed: bool) -> bool:
    return seen.status in {404, 405} and not seen.did


_AS_DECLARED: Mapping[Declared, Callable[[Cell, Seen, bool], bool]] = {
    "allowed": _allowed, "hidden": _let_in, "public": _let_in, "denied": _denied, "missing": _missing,
    "signed out": _signed_out, "refused": _refused,
}  # fmt: skip
