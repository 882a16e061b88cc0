"""Which fields of an assistant's message, beside OpenAI's own, go back to the provider that wrote them. Gate: cost.

Clients echo an answer with whatever stood in it. Some providers refuse a conversation whose own fields are missing,
others one with fields that they do not know.
"""

from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from app.gateway.forwarding import ADDRESSES


@dataclass(frozen=True)
class VendorFields:
    message: frozenset[str] = frozenset()
    call: frozenset[str] = frozenset()  # of one of its tool calls


NONE = VendorFields()
# Google, "OpenAI compatibility": thought signatures must come back byte for byte; unknown names are errors.
GOOGLE = VendorFields(frozenset({"extra_content"}), frozenset({"extra_content"}))
# At any other address is a proxy or one of the many that speak this interface. DeepSeek, "Thinking mode": after a tool
# call `reasoning_content` must come back; OpenRouter and MiniMax: `reasoning_details`; vLLM and Groq: `reasoning`;
# LiteLLM's proxy: `thinking_blocks`, with Anthropic's signatures.
ANY = VendorFields(
    frozenset({"reasoning_content", "reasoning", "reasoning_details", "thinking_blocks", "extra_content"}),
    frozenset({"extra_content"}),
)
_OPENAI_HOSTS = (".api.openai.com", ".openai.azure.com")  # regions and Azure's: as strict as OpenAI itself


@cache
def vendor_fields(provider: str, address: str | None) -> VendorFields:
    """The fields that a provider takes back; `address` None: at its own."""
    own = ADDRESSES.get(provider, "")
    host = urlsplit(address or own).hostname or ""
    if f".{host}".endswith(_OPENAI_HOSTS) or provider == "offline":
        return NONE
    if host != urlsplit(own).hostname:
        return ANY
    return GOOGLE if provider == "google" else NONE
