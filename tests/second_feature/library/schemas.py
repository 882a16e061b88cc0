"""What the library's agent answers with."""

from pydantic import BaseModel, ConfigDict, Field


class LibraryAnswer(BaseModel):
    model_config = ConfigDict(extra="forbid")
    answer: str = Field(min_length=1, max_length=4_000)
