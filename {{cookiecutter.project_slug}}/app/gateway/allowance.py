"""How long an answer may be, and how long it may take: what is given without a word, and what can be asked for.

A model that reasons gets tokens for that on top of those that can be read, and all tokens beyond the default get time
at the default's own rate. Gate: errors, cost.
"""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True)
class CallLimits:
    max_tokens: int  # where nothing else is asked for
    deadline: timedelta  # for so many tokens
    longest: timedelta  # for any number of them


@dataclass(frozen=True)
class Allowance:
    """What one call of a model is given."""

    visible: int  # tokens that can be read
    reasoning: int  # tokens beside them
    is_clamped: bool  # more was asked for
    patience: timedelta  # to the first byte of a stream, and between two of its pieces
    deadline: timedelta  # of an answer that comes as one

    @property
    def tokens(self) -> int:
        return self.visible + self.reasoning


def allowance(limits: CallLimits, asked: int | None, *, ceiling: int, reasoning: int) -> Allowance:
    """`asked`: tokens that the caller wants at most; `ceiling`: how many of them it may have."""
    visible = min(asked or limits.max_tokens, ceiling)
    beyond = max(0, visible - limits.max_tokens)
    return Allowance(
        visible=visible,
        reasoning=reasoning,
        is_clamped=asked is not None and asked > ceiling,
        patience=_time(limits, reasoning),
        deadline=_time(limits, beyond + reasoning),
    )


def _time(limits: CallLimits, more_tokens: int) -> timedelta:
    return min(limits.longest, limits.deadline * (1 + more_tokens / limits.max_tokens))
