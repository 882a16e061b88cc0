"""Declaring a tool: what it does to the world, who may ask for it, and its bounds. Gate: validation."""

import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from sqlalchemy.ext.asyncio import AsyncSession

from app.db.engine import Database
from app.identity.principal import Principal
from app.policy.decision import Effect
from app.tools.egress import Egress


@dataclass(frozen=True)
class ToolContext:
    """What a tool gets: the caller's authority, its tenant's data and the only way out."""

    principal: Principal
    run_id: str
    idempotency_key: str  # the same for every attempt at this call; pass it to whatever you change
    db: Database
    egress: Egress

    def transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        """A transaction limited to the caller's tenant."""
        return self.db.transaction(self.principal)


class ToolFailure(Exception):
    """A tool could not do its work; the text is shown to the model, so keep it free of secrets."""


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

    async def call(self, context: ToolContext, arguments: BaseModel) -> Any:
        """Run the tool and return its result as JSON-ready data."""
        values = {name: getattr(arguments, name) for name in type(arguments).model_fields}
        return self.result.dump_python(await self.function(context, **values), mode="json")


def tool(
    *,
    effect: Effect,
    permission: str,
    timeout: timedelta = timedelta(seconds=5),
    output_limit: int = 8_000,
    idempotent: bool = False,
) -> Callable[[Callable[..., Awaitable[Any]]], ToolSpec]:
    """Make an async function `(context, *, typed arguments) -> typed result` a tool.

    The argument schema is taken from the signature and refuses unknown fields; the docstring is what
    the model reads. A tool does nothing by itself: only `tools/guard` can run it."""

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
        )

    return declare
