"""The one way a tool runs: arguments checked, switch, policy, approval, execute once, on record.

A tool function is never handed to the agent framework (see `gate.py`), so nothing that skips this
module can run one. Gate: security, access, validation, errors, monitoring.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anyio
import structlog
from pydantic import ValidationError

from app.background import run_to_completion
from app.content.invisible import has_hidden
from app.content.json_pointer import json_pointer
from app.db.engine import Database, require_no_transaction
from app.draining import checkpoint, is_interrupted, uninterrupted
from app.errors import BudgetExceeded, RunCancelled, RunLimitExceeded, ServiceHalted
from app.identity.directory import Directory
from app.identity.principal import Principal
from app.policy.decision import Allow, AskHuman, Deny
from app.policy.rules import Policy, ToolRequest
from app.policy.taint import Taint
from app.switches.board import Board, Watch
from app.tools.caller import CallerOfRun
from app.tools.calls import Call, CallBook
from app.tools.egress import Egress, EgressRefused
from app.tools.outcome import Invalid, Outcome, Parked, Performed, Refused
from app.tools.spec import ToolContext, ToolFailure, ToolSpec

log = structlog.get_logger(__name__)
Start = Callable[[], Coroutine[Any, Any, Outcome | None]]  # puts the intent on record, unless the call may not run


@dataclass(frozen=True)
class Guard:
    db: Database
    directory: Directory
    board: Board
    policy: Policy
    egress: Egress
    tools: Mapping[str, ToolSpec]
    approval_ttl: timedelta

    async def perform(
        self, caller: CallerOfRun, call_id: str, tool: str, arguments: Mapping[str, Any], *, approved: bool
    ) -> Outcome:
        """Decide one tool call and, if allowed, execute it once.

        The model is an untrusted client: whatever it sent ends as a typed outcome. Raises
        ServiceHalted when a kill switch covers the call, Unauthenticated when its member is gone."""
        require_no_transaction("tool call")
        spec = self.tools.get(tool)
        if spec is None or tool not in caller.tools:
            return Refused("There is no such tool.")
        try:
            parsed = spec.arguments.model_validate_json(json.dumps(arguments))
        except (ValidationError, ValueError, TypeError, RecursionError) as error:
            return Invalid(_pointers(error))
        if hidden := _hidden(arguments):  # who approves the call must see what it says
            return Invalid(tuple(f"{place}: characters that cannot be seen are not allowed" for place in hidden))
        switches = ("runs", *spec.switches, f"tenant:{caller.tenant_id}", f"feature:{caller.feature}")
        await self.board.require_clear(*switches)
        book = CallBook(self.db, self.policy.version, self.approval_ttl)
        principal = await self._authority_now(caller)
        call = Call(caller, call_id, spec, parsed, principal)
        if not call.is_canonical:
            return Invalid(("a number is outside the range that JSON can carry exactly",))
        if (earlier := await book.earlier(call)) is not None:
            return earlier
        return await self._decide(book, call, caller, approved=approved)

    async def _authority_now(self, caller: CallerOfRun) -> Principal:
        """The member's permissions of this moment, never wider than at the start of the run."""
        now = await self.directory.principal_of(caller.tenant_id, caller.member_id, caller.key_id)
        return Principal(now.tenant_id, now.member_id, now.name, now.roles, now.permissions & caller.granted, key_id="")

    async def _decide(self, book: CallBook, call: Call, caller: CallerOfRun, *, approved: bool) -> Outcome:
        taint = await book.taint(call, Taint(frozenset({"documents"} if caller.reads_documents else set())))
        request = ToolRequest(call.spec.name, call.spec.effect, call.spec.permission)
        match self.policy.decide(call.principal, request, taint):
            case Deny() as denied:
                return await book.deny(call, denied)
            case AskHuman() as question if approved:
                change = await self._change(call)
                return await self._execute(book, call, lambda: _start_approved(book, call, question, change))
            case AskHuman() as question if caller.depth:
                return await book.deny(call, Deny("delegate", f"a delegate cannot ask a person, and {question.reason}"))
            case AskHuman() if await book.was_declined(call):
                return await book.deny(call, Deny("declined", "a person has declined exactly this in this run"))
            case AskHuman() as question:
                return await self._ask(book, call, question)
            case Allow() as allowed:
                return await self._execute(book, call, lambda: _start(book, call, allowed))

    def _context(self, call: Call, egress: Egress) -> ToolContext:
        return ToolContext(
            call.principal, call.run_id, call.call_id, call.idempotency_key, self.db, egress, call.caller
        )

    async def _ask(self, book: CallBook, call: Call, question: AskHuman) -> Outcome:
        change = await self._change(call)
        if change is None and call.spec.preview is not None:
            return await book.deny(call, Deny("preview", "what it would change cannot be shown to who decides"))
        return Parked(await book.ask(call, question, change))

    async def _change(self, call: Call) -> dict[str, Any] | None:
        """What the call would change, for who decides; None without a preview, and where it fails."""
        try:
            with anyio.fail_after(call.spec.timeout.total_seconds()):
                return await call.spec.change(self._context(call, self.egress.limited_to(())), call.arguments)
        except Exception as error:
            log.exception("tool.preview_failed", tool=call.spec.name, error=type(error).__name__)
            return None

    async def _execute(self, book: CallBook, call: Call, start: Start) -> Outcome:
        """Record the intent, run the tool, record its outcome: that for certain, however the caller is stopped."""
        await checkpoint()
        try:
            with _to_its_end(call.spec):
                return await run_to_completion(start()) or await self._run(book, call)
        except asyncio.CancelledError:
            if call.spec.idempotent and is_interrupted():
                raise  # no outcome to record: the segment's next owner starts the tool again
            # The run's time is up. Whether the effect happened is not known, and must be on record.
            try:
                await run_to_completion(book.cut_off(call))
            except Exception:  # housekeeping finds it, once its run has ended
                log.exception("tool.cut_off_unrecorded", tool=call.spec.name, run_id=call.run_id)
            raise

    async def _run(self, book: CallBook, call: Call) -> Outcome:
        context = self._context(call, call.spec.way_out(self.egress))
        watch: Watch | None = None

        async def finish(state: str, outcome: Performed | Refused, **facts: str) -> Outcome:
            return await run_to_completion(book.finish(call, state, outcome, **facts))

        try:
            # What stops the whole run is looked for where the run is: here only what stops this tool.
            with anyio.fail_after(call.spec.timeout.total_seconds()), self.board.obeyed(*call.spec.switches) as watch:
                value = await call.spec.call(context, call.arguments)
        except (ToolFailure, EgressRefused) as error:
            because = {"because": error.because} if isinstance(error, ToolFailure) and error.because else {}
            return await finish("failed", Refused(f"The tool failed: {error}"), **because)
        except (BudgetExceeded, RunLimitExceeded, RunCancelled, ServiceHalted):
            # Of a delegate: what ends its run ends this one, because it is the same. Or a switch has stopped the tool
            # itself, and what it had done by then is not known.
            cut_off = watch is not None and watch.thrown and not call.spec.idempotent
            told = Refused("The run reached its end while the tool was working.")
            await finish("unknown" if cut_off else "failed", told)
            raise
        except TimeoutError:
            return await finish("unknown", Refused("The tool did not answer in time; its outcome is unknown."))
        except Exception:
            log.exception("tool.crashed", tool=call.spec.name, run_id=call.run_id)
            if call.spec.idempotent:
                return await finish("failed", Refused("The tool failed."))
            # A connection that broke after the request was sent looks like this too.
            return await finish("unknown", Refused("The tool failed; its outcome is unknown."))
        return await finish("done", Performed(_capped(value, call.spec.output_limit)))


async def _start(book: CallBook, call: Call, allowed: Allow) -> Outcome | None:
    """Record the intent; what came of another attempt at this call, where that was recorded first."""
    return None if await book.start(call, allowed) else await book.earlier(call)


async def _start_approved(
    book: CallBook, call: Call, question: AskHuman, change: dict[str, Any] | None
) -> Outcome | None:
    """The same where a person has approved it; Refused where the approval does not cover it."""
    refused = await book.start_approved(call, question, change)
    return None if refused is None else (await book.earlier(call) or refused)


def _to_its_end(spec: ToolSpec) -> AbstractContextManager[None]:
    """The end of this worker waits for a tool that may not be started a second time."""
    return nullcontext() if spec.idempotent else uninterrupted()


def _capped(value: Any, limit: int) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= limit else {"truncated": True, "text": text[:limit]}


def _hidden(value: Any, place: str = "") -> list[str]:
    """Where in the arguments there are characters that a person does not see."""
    match value:
        case str():
            return [place] if has_hidden(value) else []
        case Mapping():
            keys = [place or "/"] if any(has_hidden(str(key)) for key in value) else []
            return [
                *keys,
                *(found for key, item in value.items() for found in _hidden(item, place + json_pointer(key))),
            ]
        case list():
            return [found for index, item in enumerate(value) for found in _hidden(item, f"{place}/{index}")]
    return []


def _pointers(error: Exception) -> tuple[str, ...]:
    if not isinstance(error, ValidationError):
        return ("the arguments are not JSON of a reasonable depth",)
    issues = error.errors(include_input=False, include_url=False, include_context=False)
    return tuple(f"{json_pointer(*issue['loc']) or '/'}: {issue['msg']}" for issue in issues)
