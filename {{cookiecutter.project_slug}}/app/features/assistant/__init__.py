"""A support desk: the worked example. Read it, copy it, delete it when you have your own."""

from pathlib import Path

from app.features.assistant.agent import AGENT
from app.features.assistant.api import router
from app.manifest import Feature

FEATURE = Feature(name="assistant", agent=AGENT, evals=Path(__file__).parent / "evals", router=router)
