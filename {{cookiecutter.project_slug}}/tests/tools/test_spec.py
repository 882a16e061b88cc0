"""A declaration that would weaken the guard is refused where it is written."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AnyUrl, BaseModel, StringConstraints

from app.policy.decision import Effect
from app.runs.agents import AgentSpec
from app.runs.delegates import MAX_DEPTH, require_reading
from app.tools.egress import Egress, EgressRefused
from app.tools.gate import goes_in_circles
from app.tools.spec import ToolContext, tool

pytestmark = pytest.mark.anyio
ORIGIN = "http://127.0.0.1:9"


def _reading(**options: Any) -> Callable[..., Any]:
    return tool(effect=Effect.READ, permission="x:y", **options)


async def by_url(context: ToolContext, url: str) -> str:
    """Read a page."""
    return url


async def by_typed_place(context: ToolContext, where: AnyUrl) -> str:
    """Read a page."""
    return str(where)


async def by_host_name(context: ToolContext, target_host: Annotated[str, StringConstraints(max_length=10)]) -> str:
    """Read a page."""
    return target_host


async def by_name(context: ToolContext, name: str) -> str:
    """Look a name up."""
    return name


@pytest.mark.parametrize("function", [by_url, by_typed_place, by_host_name])
def test_a_read_whose_destination_the_model_chooses_is_no_read(function: Any) -> None:
    with pytest.raises(TypeError, match="EXTERNAL_POST"):
        _reading()(function)
    assert tool(effect=Effect.EXTERNAL_POST, permission="x:y")(function).effect is Effect.EXTERNAL_POST


async def test_only_an_external_post_reaches_what_it_did_not_declare() -> None:
    everything = Egress([ORIGIN], private_addresses=True)
    for effect in (Effect.READ, Effect.WRITE, Effect.DELETE):
        way_out = tool(effect=effect, permission="x:y")(by_name).way_out(everything)
        with pytest.raises(EgressRefused, match="allow-list"):
            await way_out.get(f"{ORIGIN}/", deadline=timedelta(seconds=1))
        declared = tool(effect=effect, permission="x:y", destinations=(ORIGIN,))(by_name).way_out(everything)
        assert await declared.checked(f"{ORIGIN}/")
    assert await tool(effect=Effect.EXTERNAL_POST, permission="x:y")(by_name).way_out(everything).checked(f"{ORIGIN}/")


class _Answer(BaseModel):
    text: str


def test_a_delegate_only_reads_and_is_not_deep() -> None:
    spec = AgentSpec(name="scout", instructions="Look.", output_type=_Answer)
    require_reading(spec, [_reading()(by_name)], MAX_DEPTH)
    with pytest.raises(TypeError, match="is no read"):
        require_reading(spec, [tool(effect=Effect.WRITE, permission="x:y")(by_name)], 1)
    with pytest.raises(TypeError, match="no deeper"):
        require_reading(spec, [], MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("calls", "circles"),
    [
        ("aaa", False), ("aaaa", True), ("abababx", False), ("ababab", True), ("abcabc", False), ("abcabcabc", True),
        ("abcdefgh", False), ("xaaaa", True), ("aaab", False), ("", False),
    ],
)  # fmt: skip
def test_circles_are_told_from_progress(calls: str, circles: bool) -> None:
    assert goes_in_circles([("look", letter) for letter in calls]) is circles
