"""The agents' model of the OpenAI-compatible interface, which counts what the chat interface counts.

The library reads two numbers of a usage and leaves out what shows that they are too small: the total, and parts larger
than their whole. Both ways to the same provider book the same. Gate: cost.
"""

from typing import Any

from app.gateway.provider_json import usage_of


def counting(models: Any) -> Any:
    """The library's model, of its module `models`, with its usage borne out by all that the provider says."""

    class CountedStream(models.OpenAIStreamedResponse):  # type: ignore[misc]
        def _map_usage(self, response: Any) -> Any:
            return _borne_out(super()._map_usage(response), response)

    class CountedModel(models.OpenAIChatModel):  # type: ignore[misc]
        @property
        def _streamed_response_cls(self) -> Any:
            return CountedStream

        def _map_usage(self, response: Any) -> Any:
            return _borne_out(super()._map_usage(response), response)

    return CountedModel


def _borne_out(read: Any, response: Any) -> Any:
    """The library's reading, with what is dearer in ours."""
    told = response.usage
    ours = usage_of({"usage": told.model_dump(exclude_none=True)}) if told is not None else None
    if ours is None:
        return read
    if ours.input_tokens > read.input_tokens:
        read.input_tokens = ours.input_tokens
        read.cache_read_tokens, read.cache_write_tokens = ours.cache_read_tokens, ours.cache_write_tokens
    if ours.output_tokens > read.output_tokens:
        read.output_tokens, read.details = ours.output_tokens, {**read.details, **ours.details}
    return read
