"""What has come of a streamed answer that its reader left, and how much more its provider may charge for it.

The provider's count comes with the last piece, which nobody waited for. It has written what arrived, and goes on until
it sees that the connection is closed. Gate: cost.
"""

import time
from dataclasses import dataclass
from typing import Any

NOTICED_WITHIN_S = 2.0  # from the close of a connection to the provider's end
FAST_TOKENS_PER_S = 500  # until a speed can be seen; hardly any provider writes one answer faster
PIECES_TO_SEE, SECONDS_TO_SEE = 8, 0.2


@dataclass
class Received:
    pieces: int = 0
    text_bytes: int = 0  # no less than there are tokens in it: a byte-level tokenizer makes at most one of a byte
    began: float = 0.0
    last: float = 0.0

    def add(self, piece: dict[str, Any]) -> None:
        """Count a piece when it is read; the later it is, the more may lie unread behind it."""
        self.last = time.monotonic()
        self.began = self.began or self.last
        self.pieces += 1
        self.text_bytes += sum(_text_bytes(choice.get("delta")) for choice in piece.get("choices") or ())

    def tokens_at_most(self) -> int | None:
        """What the provider may have written by the time it notices; None where nothing has come."""
        if not self.pieces:
            return None
        seconds = self.last - self.began
        seen = self.pieces >= PIECES_TO_SEE and seconds >= SECONDS_TO_SEE
        speed = self.text_bytes / seconds if seen else max(FAST_TOKENS_PER_S, self.text_bytes)
        unread = time.monotonic() - self.last + NOTICED_WITHIN_S
        return self.text_bytes + round(speed * unread)


def _text_bytes(value: Any) -> int:
    match value:
        case str():
            return len(value.encode())
        case dict():
            return sum(map(_text_bytes, value.values()))
        case list():
            return sum(map(_text_bytes, value))
    return 0
