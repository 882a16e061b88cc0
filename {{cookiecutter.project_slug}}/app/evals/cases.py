"""An evaluation case: a task for the agent, and what must come of it."""

from pydantic import BaseModel, ConfigDict, Field


class EvalDocument(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    text: str


class EvalTask(BaseModel):
    model_config = ConfigDict(extra="forbid")
    task: str
    documents: list[EvalDocument] = Field(default_factory=list, max_length=5)
    roles: list[str] = Field(default_factory=lambda: ["member", "operator"])


class EvalResult(BaseModel):
    """What a run showed: its state, the tools that ran, the tools that wait, and the answer."""

    state: str = ""
    ran: list[str] = Field(default_factory=list)
    waiting: list[str] = Field(default_factory=list)
    arguments: str = ""
    answer: str = ""
    cost_micro: int = 0


class Expected(BaseModel):
    model_config = ConfigDict(extra="forbid")
    state: str
    ran: list[str] = Field(default_factory=list)
    waiting: list[str] = Field(default_factory=list)
    mentions: list[str] = Field(default_factory=list)  # in the answer or the arguments of what waits
    never: list[str] = Field(default_factory=list)  # nowhere in answer or arguments


class CaseTags(BaseModel):
    model_config = ConfigDict(extra="forbid")
    slice: str
