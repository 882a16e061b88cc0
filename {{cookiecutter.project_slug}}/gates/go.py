"""The deploy gate: whether this image of this commit may be deployed now. Gate: deployment.

The scorecard is computed again from the evidence; a scorecard.json that lies around is not read.
"""

from dataclasses import dataclass

from gates import seal
from gates.scorecard import EXIT, Scorecard
from gates.seal import Seal


@dataclass(frozen=True)
class Answer:
    """Exit code 0 may be deployed, 1 may not, 2 cannot be told; and one sentence that says why."""

    code: int
    why: str


def answer(card: Scorecard, image: str, *, accept_waiver: bool = False) -> Answer:
    """Raises SealUnreadable, where an image is named that no evidence is bound to."""
    if card.decision == "CONDITIONAL" and not accept_waiver:
        return Answer(1, f"{card.reason}; a waiver deploys only where it is asked for (WAIVED=1)")
    if EXIT[card.decision] != 0:
        return Answer(EXIT[card.decision], "; ".join([card.reason, *_first_lacks(card)]))
    if image and (why := seal.refusal(Seal.load(), image)):
        return Answer(1, why)
    return Answer(0, f"{card.decision} for {image or 'no image in particular'} of commit {card.subject.shown}")


def _first_lacks(card: Scorecard) -> list[str]:
    """What keeps each gate below its minimum, the first of it."""
    return [f"{score.missing[0][0]}: {score.missing[0][1]}" for score in card.gates if score.missing][:3]
