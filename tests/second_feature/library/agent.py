"""The library's agent."""

from pathlib import Path

from app.features.library.schemas import LibraryAnswer
from app.features.library.tools import create_loan, delete_loan, list_loans, notify_branch
from app.runs.agents import AgentSpec

AGENT = AgentSpec(
    name="library",
    instructions=(Path(__file__).parent / "prompt.md").read_text(encoding="utf-8"),
    output_type=LibraryAnswer,
    tools=(list_loans, create_loan, delete_loan, notify_branch),
)
