"""`python -m gates.rollout.slot start|stop|kill FOLDER`: a slot of the drill's fleet as a plain process.

What `docker compose` is to a server: SLOT and DIGEST are in the environment, FOLDER/DIGEST.json has the environment of
each version. A process outlives the command that started it, so its id is in a file.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ENDS_WITHIN_S = 60


def main(what: str, folder: Path) -> None:
    file = folder / f"{os.environ['SLOT']}.pid"
    process = _running(file)
    if what == "start":
        if process is None:
            _start(folder, file)
        return
    if process is None:
        return
    process.send_signal(signal.SIGKILL if what == "kill" else signal.SIGTERM)
    _, left = psutil.wait_procs([process], ENDS_WITHIN_S)
    if left:
        sys.exit(f"{os.environ['SLOT']} has not ended within {ENDS_WITHIN_S} s")
    file.unlink()


def _running(file: Path) -> psutil.Process | None:
    """The process of that file, if it is still the one that was started: ids are given again."""
    if not file.exists():
        return None
    noted = json.loads(file.read_text())
    try:
        process = psutil.Process(noted["pid"])
        if process.create_time() == noted["started"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    except psutil.NoSuchProcess:
        pass
    return None


def _start(folder: Path, file: Path) -> None:
    slot, digest = os.environ["SLOT"], os.environ["DIGEST"]
    common = json.loads((folder / "common.json").read_text())
    version = json.loads((folder / f"{digest.replace(':', '-')}.json").read_text())
    own = json.loads((folder / f"{slot}.json").read_text())
    with (folder / f"{slot}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gates.rollout.version", "serve"],
            env={**os.environ, **common, **version, **own}, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    started = psutil.Process(process.pid).create_time()
    file.write_text(json.dumps({"pid": process.pid, "started": started}))
    time.sleep(0.2)
    if process.poll() is not None:
        sys.exit(f"{slot} ended at once: see {folder / slot}.log")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
