"""An answer of a model that reasons beyond the cap on its output and bills for it: what costs more than was held."""

import json
from dataclasses import replace

from gates.rig import formats
from gates.rig.formats import Reply

MAX_TOKENS = 100_000  # within the context of every model


def reasoned(reply: Reply, tokens: int) -> Reply:
    """The reply to a request that is not streamed, with so many reasoning tokens beside its own."""
    answer = json.loads(formats.whole("openai", reply))
    answer["usage"]["completion_tokens_details"] = {"reasoning_tokens": tokens}
    return replace(reply, raw=json.dumps(answer).encode())
