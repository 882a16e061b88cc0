"""Whose own fields go back to whom."""

import pytest

from app.api.chat_fields import Fate, fields_with
from app.api.chat_messages import AssistantMessage, ToolCall
from app.api.chat_request import ChatCompletionCreate
from app.gateway.cache import CachePolicy
from app.gateway.vendor_fields import ANY, GOOGLE, NONE, VendorFields, vendor_fields


@pytest.mark.parametrize(
    ("provider", "address", "fields"),
    [
        ("openai", None, NONE),
        ("openai", "https://api.openai.com/v1/", NONE),
        ("openai", "https://eu.api.openai.com/v1", NONE),
        ("openai", "https://mine.openai.azure.com/openai/v1", NONE),
        ("openai", "https://notapi.openai.com.example.com/v1", ANY),
        ("openai", "https://api.deepseek.com", ANY),
        ("google", None, GOOGLE),
        ("google", "https://proxy.example.com/v1", ANY),
        ("anthropic", None, NONE),
        ("offline", None, NONE),
    ],
)
def test_a_provider_gets_its_own_fields(provider: str, address: str | None, fields: VendorFields) -> None:
    assert vendor_fields(provider, address) == fields


def test_a_request_reads_every_field_that_goes_to_anybody() -> None:
    assert ANY.message >= GOOGLE.message
    assert ANY.call >= GOOGLE.call
    assert ANY.message <= set(fields_with(Fate.PASSED, AssistantMessage))
    assert ANY.call <= set(fields_with(Fate.PASSED, ToolCall))


@pytest.mark.parametrize(
    ("vendor", "message", "call"),
    [
        (NONE, set(), set()),
        (GOOGLE, {"extra_content"}, {"extra_content"}),
        (ANY, {"extra_content", "reasoning_content"}, {"extra_content"}),
    ],
)
def test_nothing_else_is_in_an_answer_that_is_sent_back(
    vendor: VendorFields, message: set[str], call: set[str]
) -> None:
    signature = {"google": {"thought_signature": "a" * 50}}
    called = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": signature}
    answer = {"role": "assistant", "tool_calls": [called], "extra_content": signature, "reasoning_content": ""}
    body = ChatCompletionCreate.model_validate({"model": "standard", "messages": [answer]})
    [sent] = body.request(CachePolicy(), vendor).messages
    assert set(sent) == {"role", "tool_calls"} | message
    assert set(sent["tool_calls"][0]) == {"id", "type", "function"} | call
