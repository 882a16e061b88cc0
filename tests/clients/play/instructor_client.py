import instructor
from openai import OpenAI
from pydantic import BaseModel
from scenario import MODEL, QUESTION, REFUSED, expect, plays, refused


class City(BaseModel):
    name: str
    people: int


MESSAGES = [{"role": "user", "content": QUESTION}]


def structured_by(mode: instructor.Mode) -> None:
    made = instructor.from_openai(OpenAI(), mode=mode)
    city = made.chat.completions.create(model=MODEL, messages=MESSAGES, response_model=City)
    expect(isinstance(city, City), city)


def partial() -> None:
    made = instructor.from_openai(OpenAI())
    cities = list(made.chat.completions.create_partial(model=MODEL, messages=MESSAGES, response_model=City))
    expect(cities[-1].name, cities)


for mode in (instructor.Mode.TOOLS, instructor.Mode.TOOLS_STRICT, instructor.Mode.JSON_SCHEMA):
    plays(f"structured {mode.name}", lambda mode=mode: structured_by(mode))
plays("partial", partial)
refusing = [{"role": "user", "content": REFUSED}]
client = instructor.from_openai(OpenAI())
plays(
    "refused",
    lambda: refused(lambda: client.chat.completions.create(model=MODEL, messages=refusing, response_model=City)),
)
