import dspy
from scenario import MODEL, QUESTION, expect, plays

dspy.configure(lm=dspy.LM(f"openai/{MODEL}", temperature=0.7, max_tokens=1_000, cache=False))


def chat() -> None:
    [text] = dspy.settings.lm(QUESTION)
    expect("Lisbon" in str(text), text)


plays("chat", chat)
