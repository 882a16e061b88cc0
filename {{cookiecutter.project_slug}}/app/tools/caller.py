"""On whose behalf a run acts, and with which tools.

Gate: access.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class CallerOfRun:
    """`granted` is what the member could do when the run started; `tools` what its agent was declared with."""

    run_id: str
    tenant_id: str
    member_id: str
    feature: str
    granted: frozenset[str]
    key_id: str
    reads_documents: bool
    tools: frozenset[str]
    depth: int = 0  # delegates between the run and this caller
    issuer_chain: list[str] | None = None  # who else may hold the key that started the run; None: not on record
    call_prefix: str = ""  # keeps a delegate's calls apart from those of its run

    def delegate(self, tools: frozenset[str], permissions: frozenset[str], call_id: str) -> "CallerOfRun":
        """The authority of a delegate: never more than that of who asked it, and only for its own tools."""
        return replace(
            self,
            granted=self.granted & permissions,
            tools=tools,
            depth=self.depth + 1,
            call_prefix=f"{self.call_prefix}{call_id}/",
        )
