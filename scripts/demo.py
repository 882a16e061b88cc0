"""Generate a service into a temporary folder, install it, and hand over to its own demo."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parent.parent


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="ai-service-") as folder:
        print("1/3 generating a service from this template", flush=True)
        project = cookiecutter(str(TEMPLATE), no_input=True, output_dir=folder, extra_context={"project_name": "Demo"})
        print("2/3 installing it (the first time downloads about 130 packages)", flush=True)
        # The template's own uv serves the generated service too, where none is installed.
        tools = f"{TEMPLATE / '.uv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "PATH": tools}
        if status := subprocess.call(["make", "--no-print-directory", "setup"], cwd=project, env=environment):
            return status
        print("3/3 playing the story", flush=True)
        return _played(project, environment)


def _played(project: str, environment: dict[str, str]) -> int:
    """Run the service's own demo. Ctrl-C reaches it too; the folder is removed only when it has ended."""
    demo = subprocess.Popen(["make", "--no-print-directory", "demo"], cwd=project, env=environment)
    while True:
        try:
            return demo.wait()
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):
                demo.wait(30)
                return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
