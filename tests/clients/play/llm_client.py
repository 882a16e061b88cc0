import subprocess
import sys

from scenario import MODEL, QUESTION, REFUSED, expect, plays, refused


def told(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", "llm", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(done.stderr[-300:])
    return done.stdout


def chat() -> None:
    expect("Lisbon" in told("-m", MODEL, "--no-stream", "-n", QUESTION), "no answer")


def stream() -> None:
    expect("Lisbon" in told("-m", MODEL, "-n", "-o", "temperature", "0.3", QUESTION), "no answer")


def structured() -> None:
    expect("Lisbon" in told("-m", MODEL, "-n", "--schema", "name, people int", QUESTION), "no city")


for play in (chat, stream, structured):
    plays(play.__name__, play)
plays("refused", lambda: refused(lambda: told("-m", MODEL, "-n", REFUSED)))
