from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAI
from pydantic import BaseModel
from scenario import LONG, MODEL, QUESTION, REFUSED, SLOW, expect, plays, refused


def find_order(number: str) -> str:
    """Where an order is."""
    return f"{number} was sent"


class City(BaseModel):
    """A city."""

    name: str
    people: int


model = OpenAI(model=MODEL)


def chat() -> None:
    expect("Lisbon" in str(model.chat([ChatMessage(role="user", content=QUESTION)])), "no answer")


def stream() -> None:
    pieces = model.stream_chat([ChatMessage(role="user", content=QUESTION)])
    expect("Lisbon" in "".join(piece.delta or "" for piece in pieces), "no answer")


def tools() -> None:
    answer = model.predict_and_call([FunctionTool.from_defaults(find_order)], QUESTION)
    expect("was sent" in str(answer), answer)


def structured() -> None:
    expect(isinstance(model.as_structured_llm(City).complete(QUESTION).raw, City), "no city")


def long() -> None:
    text = str(OpenAI(model=MODEL, max_tokens=8_000).complete(LONG))
    expect(len(text.split()) >= 6_000, f"{len(text.split())} words")


def slow() -> None:
    expect("Portugal" in "".join(piece.delta or "" for piece in model.stream_complete(SLOW)), "cut off")


def embeddings() -> None:
    made = OpenAIEmbedding().get_text_embedding_batch(["a\nb", "c"])
    expect([len(each) for each in made] == [3, 3], made)


for play in (chat, stream, tools, structured, long, slow, embeddings):
    plays(play.__name__, play)
plays("refused", lambda: refused(lambda: model.complete(REFUSED)))
