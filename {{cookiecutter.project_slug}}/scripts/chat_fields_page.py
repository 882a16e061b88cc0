"""Write docs/chat-fields.md from the chat interface's own declarations: python -m scripts.chat_fields_page"""

from pathlib import Path

from app.api.chat_fields import Handling, fates
from app.api.chat_request import ChatCompletionCreate

HEAD = """# Fields of a chat request

What `POST /v1/chat/completions` does with each field of OpenAI's interface. This page is made from
`app/api/chat_*.py` by `python -m scripts.chat_fields_page`; a test holds it to the types of the installed `openai`
package, so a field that is new there has to be decided on here.

- **passed on**: the provider gets it, with personal data replaced. What the model does not take is left out, and
  `X-Dropped-Parameters` names it.
- **used here**: the provider gets what this service makes of it.
- **translated**: the provider gets it under another name.
- **dropped**: it is taken, because clients send it by habit, and the provider does not get it.
- **refused**: `422 request.invalid` with the sentence that stands here.

A field at the top that is `null` counts as absent. A field at the top that is not on this page is refused and named
(`top_k`, `extra_body`): nobody should believe that it had an effect. Inside messages, their parts and their tool
calls a field that is not on this page is dropped (`index`, `sender`, `tool_name`, `annotations`,
`provider_specific_fields`, `cache_control`): libraries keep such notes in a conversation, and OpenAI refuses them.

What providers add to an assistant's message goes back where it may be needed. Google gets `extra_content`, with its
thought signatures byte for byte. A provider at an address of your own (`MODEL_BASE_URL`, `CHAT_BASE_URL`) gets
`extra_content`, `reasoning_content`, `reasoning`, `reasoning_details` and `thinking_blocks`. OpenAI, Azure and
Anthropic get none of them.

Nothing inside an image is redacted: whoever is to be seen on it is seen by the provider. A tier takes images when
each of its models, those that stand in for it included, says `images = true` in `config/models.toml`. An image is
held for as the most that a model charges for one (48,169 tokens, with `"detail": "low"` 4,784) and then costs what
the provider reports.

A client that sends `functions` reads `function_call` in the answer, whole and streamed, and sends its result as a
message of the role `function` right behind the assistant's. Of several calls in one answer it gets the first.

`[…]` in a path is the `role` or `type` of an object, or a value.

| field | what happens | |
|---|---|---|
"""


def rows() -> dict[str, Handling]:
    """Every field by its path."""
    return dict(fates(ChatCompletionCreate))


def page() -> str:
    return HEAD + "".join(f"| `{path}` | {told.fate} | {told.why} |\n" for path, told in rows().items())


if __name__ == "__main__":
    target = Path(__file__).resolve().parent.parent / "docs" / "chat-fields.md"
    target.write_text(page(), encoding="utf-8")
    print(f"wrote {target}")
