"""What a feature contributes. Add yours to `app/features/__init__.py`; nothing else needs to change."""

from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter

from app.runs.agents import AgentSpec
from app.tools.spec import ToolSpec


@dataclass(frozen=True)
class Feature:
    name: str
    agent: AgentSpec
    evals: Path | None = None  # folder with dataset.yaml and thresholds.toml
    router: APIRouter | None = None  # routes of its own; each needs a guard like any other

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        return self.agent.tools
