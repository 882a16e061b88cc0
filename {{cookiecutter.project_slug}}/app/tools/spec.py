"""Declaring a tool: what it does to the world, who may ask for it, and its bounds. Gate: security, validation."""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import Database
from app.identity.principal import Principal
from app.policy.decision import Effect
from app.tools.caller import CallerOfRun
from app.tools.egress import Egress

# What an argument is called, or holds, when it says where to go.
_DESTINATION = re.compile(
    r"(^|_)(url|uri|iri|link|href|endpoint|webhook|callback|host|hostname|domain|destination|address|site|website|server|feed)s?$",
    re.IGNORECASE,
)
_PLACES = frozenset({"uri", "uri-reference", "iri", "iri-reference", "url", "hostname", "idn-hostname", "ipv4", "ipv6"})


@dataclass(frozen=True)
class ToolContext:
    """What a tool gets: the caller's authority, its tenant's data and the only way out."""

    principal: Principal
    run_id: str
    call_id: str
    idempotency_key: str  # the same for every attempt at this call; pass it to whatever you change
    db: Database
    egress: Egress  # a read reaches its declared destinations only
    caller: CallerOfRun

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A transaction limited to the caller's tenant."""
        return self.db.transaction(self.principal)

    def read(self) -> AbstractAsyncContextManager[AsyncSession]:
        """The same for what only reads: it waits for nobody's write."""
        return self.db.read(self.principal)


class ToolFailure(Exception):
    """A tool could not do its work, and nothing happened; the text is shown to the model, so keep it free of secrets.

    `because` is a word for the audit trail."""

    def __init__(self, told: str, *, because: str = "") -> None:
        super().__init__(told)
        self.because = because


@dataclass(frozen=True)
class Change:
    """What a call would change, for the person who decides about it: the fields before and after."""

    before: Mapping[str, Any]  # empty for something new
    after: Mapping[str, Any]  # empty for a deletion


Preview = Callable[..., Awaitable[Change]]


@dataclass(frozen=True)
class ToolSpec:
    name: str
    description: str
    effect: Effect
    permission: str
    timeout: timedelta
    output_limit: int  # characters of JSON
    idempotent: bool  # safe to start again with the same idempotency key after a crash
    arguments: type[BaseModel]
    function: Callable[..., Awaitable[Any]]
    result: TypeAdapter[Any]
    destinations: tuple[str, ...] | None = (
        None  # origins it reaches; None: an external post all allowed ones, others none
    )
    preview: Preview | None = None

    @property
    def goes_out(self) -> bool:
        """Whether it may reach anything beyond this service."""
        return bool(self.destinations) or (self.destinations is None and self.effect is Effect.EXTERNAL_POST)

    @property
    def switches(self) -> tuple[str, ...]:
        """The kill switches that stop this tool and not its whole run."""
        more = ["egress"] if self.goes_out else []
        more += [] if self.effect is Effect.READ else ["read_only"]
        return f"tool:{self.name}", f"effect:{self.effect}", *more

    def way_out(self, egress: Egress) -> Egress:
        """The part of the way out that this tool may use."""
        if self.destinations is None and self.effect is Effect.EXTERNAL_POST:
            return egress
        return egress.limited_to(self.destinations or ())  # a wrong effect must not open a way out

    async def change(self, context: ToolContext, arguments: BaseModel) -> dict[str, Any] | None:
        """What the call would change right now, as JSON-ready data; None when the tool has no preview."""
        if self.preview is None:
            return None
        change = await self.preview(context, **self._values(arguments))
        shown: dict[str, Any] = TypeAdapter(Any).dump_python(
            {"before": change.before, "after": change.after}, mode="json"
        )
        return shown

    async def call(self, context: ToolContext, arguments: BaseModel) -> Any:
        """Run the tool and return its result as JSON-ready data."""
        return self.result.dump_python(await self.function(context, **self._values(arguments)), mode="json")

    @staticmethod
    def _values(arguments: BaseModel) -> dict[str, Any]:
        return {name: getattr(arguments, name) for name in type(arguments).model_fields}


def tool(
    *,
    effect: Effect,
    permission: str,
    timeout: timedelta = timedelta(seconds=5),
    output_limit: int = 8_000,
    idempotent: bool = False,
    destinations: tuple[str, ...] | None = None,
    preview: Preview | None = None,
) -> Callable[[Callable[..., Awaitable[Any]]], ToolSpec]:
    """Make an async function `(context, *, typed arguments) -> typed result` a tool.

    The argument schema is taken from the signature and refuses unknown fields; the docstring is what
    the model reads. A tool does nothing by itself: only `tools/guard` can run it.

    `idempotent`: it passes `context.idempotency_key` on, so a start that a crash cut off may be repeated.
    `destinations`: origins it reaches through `context.egress`. Without them an external post reaches every allowed
    one, and any other tool none.
    `preview`: an async function of the same arguments that says what would change, shown to who approves.
    See docs/tools.md. Raises TypeError for a declaration that would weaken the guard."""

    def declare(function: Callable[..., Awaitable[Any]]) -> ToolSpec:
        hints = get_type_hints(function, include_extras=True)
        parameters = list(inspect.signature(function).parameters.values())[1:]
        fields: dict[str, Any] = {
            p.name: (hints[p.name], ... if p.default is inspect.Parameter.empty else p.default) for p in parameters
        }
        description = inspect.getdoc(function)
        if not description:
            raise TypeError(f"tool {function.__name__} needs a docstring: the model reads it")
        arguments = create_model(function.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)
        hidden = [n for n, f in arguments.model_fields.items() if f.exclude or "Secret" in repr(f.annotation)]
        if hidden:
            raise TypeError(f"tool {function.__name__}: {', '.join(hidden)} would be hidden from who approves the call")
        if preview is not None and list(inspect.signature(preview).parameters)[1:] != [p.name for p in parameters]:
            raise TypeError(f"tool {function.__name__}: its preview takes the same arguments, by the same names")
        if effect is Effect.READ and (chosen := chosen_destinations(arguments.model_json_schema())):
            raise TypeError(
                f"tool {function.__name__}: with {', '.join(chosen)} the model chooses where to go, so what it has "
                "read can leave in the address: declare EXTERNAL_POST, or take a name and keep the addresses in code"
            )
        return ToolSpec(
            name=function.__name__,
            description=description,
            effect=effect,
            permission=permission,
            timeout=timeout,
            output_limit=output_limit,
            idempotent=idempotent or effect is Effect.READ,
            arguments=arguments,
            function=function,
            result=TypeAdapter(hints["return"]),
            destinations=destinations,
            preview=preview,
        )

    return declare


def chosen_destinations(schema: Any) -> list[str]:
    """The fields of a JSON schema, at any depth, that name a place on the network by what they are called or hold."""
    found: list[str] = []
    match schema:
        case dict():
            if schema.get("format") in _PLACES:
                found.append(f"a field of format {schema['format']}")
            properties = schema.get("properties")
            names = [str(name) for name in properties] if isinstance(properties, dict) else []
            found += [n for n in names if _DESTINATION.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", n))]
            found += [place for item in schema.values() for place in chosen_destinations(item)]
        case list():
            found += [place for item in schema for place in chosen_destinations(item)]
    return list(dict.fromkeys(found))
