"""Taint: what untrusted content a run has read.

Documents and tool results can carry instructions that are not the user's (OWASP LLM01, indirect
prompt injection). A tainted run keeps its authority to read and loses its authority to act alone.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Taint:
    sources: frozenset[str] = frozenset()  # "documents", "tool:<name>"

    def __bool__(self) -> bool:
        return bool(self.sources)

    def with_source(self, source: str) -> "Taint":
        return Taint(self.sources | {source})

    def __str__(self) -> str:
        return ", ".join(sorted(self.sources)) or "nothing"
