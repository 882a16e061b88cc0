"""What every part of a request may want to know about it."""

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
speaks_openai: ContextVar[bool] = ContextVar("speaks_openai", default=False)  # how its errors are told
