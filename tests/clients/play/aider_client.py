import subprocess
import sys
import tempfile

from scenario import MODEL, QUESTION, expect, plays


def chat() -> None:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "aider", "--model", f"openai/{MODEL}", "--no-git", "--yes-always"]
        command += ["--no-show-model-warnings", "--no-check-update", "--analytics-disable", "--message", QUESTION]
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        expect("Lisbon" in done.stdout, (done.stdout + done.stderr)[-300:])


plays("chat", chat)
