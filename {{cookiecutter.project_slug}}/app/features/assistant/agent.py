"""The support agent: its instructions, what it answers with and which tools it may ask for."""

from pathlib import Path

from app.features.assistant.schemas import SupportAnswer
from app.features.assistant.tools import create_ticket, delete_ticket, notify_webhook, search_tickets
from app.runs.agents import AgentSpec

AGENT = AgentSpec(
    name="assistant",
    instructions=(Path(__file__).parent / "prompt.md").read_text(encoding="utf-8"),
    output_type=SupportAnswer,
    tools=(search_tickets, create_ticket, delete_ticket, notify_webhook),
)
