from pydantic import BaseModel
from pydantic_ai import Agent
from scenario import MODEL, QUESTION, REFUSED, SLOW, expect, plays, plays_async, refused


class City(BaseModel):
    name: str
    people: int


def find_order(number: str) -> str:
    """Where an order is."""
    return f"{number} was sent"


for interface in ("openai-chat", "openai-responses"):
    agent = Agent(f"{interface}:{MODEL}")

    def chat(agent: Agent = agent) -> None:
        expect("Lisbon" in agent.run_sync(QUESTION).output, "no answer")

    async def stream(agent: Agent = agent) -> None:
        async with agent.run_stream(QUESTION) as answer:
            expect("Lisbon" in "".join([piece async for piece in answer.stream_text(delta=True)]), "no answer")

    async def slow(agent: Agent = agent) -> None:
        async with agent.run_stream(SLOW) as answer:
            expect("Portugal" in "".join([piece async for piece in answer.stream_text(delta=True)]), "cut off")

    def tools(interface: str = interface) -> None:
        made = Agent(f"{interface}:{MODEL}", tools=[find_order])
        expect("Lisbon" in made.run_sync(QUESTION).output, "no answer")

    def structured(interface: str = interface) -> None:
        expect(isinstance(Agent(f"{interface}:{MODEL}", output_type=City).run_sync(QUESTION).output, City), "no city")

    plays(f"{interface} chat", chat)
    plays_async(f"{interface} stream", stream)
    plays_async(f"{interface} slow", slow)
    plays(f"{interface} tools", tools)
    plays(f"{interface} structured", structured)
    plays(f"{interface} refused", lambda agent=agent: refused(lambda: agent.run_sync(REFUSED)))
