from agents import (
    Agent,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from openai import AsyncOpenAI
from pydantic import BaseModel
from scenario import MODEL, QUESTION, REFUSED, expect, plays, plays_async, refused

set_tracing_disabled(True)


@function_tool
def find_order(number: str) -> str:
    """Where an order is."""
    return f"{number} was sent"


class City(BaseModel):
    name: str
    people: int


for kind in (OpenAIChatCompletionsModel, OpenAIResponsesModel):
    name = kind.__name__.removeprefix("OpenAI").removesuffix("Model")

    def agent(kind: type = kind, **more: object) -> Agent:
        return Agent(name="helper", instructions="Help.", model=kind(MODEL, AsyncOpenAI()), **more)

    def chat(agent: object = agent) -> None:
        expect("Lisbon" in Runner.run_sync(agent(), QUESTION).final_output, "no answer")

    async def stream(agent: object = agent) -> None:
        ran = Runner.run_streamed(agent(tools=[find_order]), QUESTION)
        async for _ in ran.stream_events():
            pass
        expect("Lisbon" in ran.final_output, "no answer")

    def tools(agent: object = agent) -> None:
        expect("Lisbon" in Runner.run_sync(agent(tools=[find_order]), QUESTION).final_output, "no answer")

    def structured(agent: object = agent) -> None:
        expect(isinstance(Runner.run_sync(agent(output_type=City), QUESTION).final_output, City), "no city")

    plays(f"{name} chat", chat)
    plays_async(f"{name} stream with tools", stream)
    plays(f"{name} tools", tools)
    plays(f"{name} structured", structured)
    plays(f"{name} refused", lambda agent=agent: refused(lambda: Runner.run_sync(agent(), REFUSED)))
