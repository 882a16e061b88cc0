"""How a request becomes the user's message: the task and each document in marked places.

Roles stay apart: instructions are the system's, a request never becomes part of them (OWASP LLM01).

Gate: validation.
"""

import re
from collections.abc import Sequence

_MARKERS = re.compile(r"</?(task|document)\b", re.IGNORECASE)


def user_message(task: str, documents: Sequence[dict[str, str]]) -> str:
    """One user message. Text that imitates the markers is defused, so a document cannot end early."""
    parts = [f"<task>\n{_defused(task)}\n</task>"]
    for document in documents:
        name = _defused(document["name"]).replace('"', "'")
        parts.append(f'<document name="{name}">\n{_defused(document["text"])}\n</document>')
    return "\n\n".join(parts)


def _defused(text: str) -> str:
    return _MARKERS.sub(lambda found: found[0].replace("<", "&lt;"), text)
