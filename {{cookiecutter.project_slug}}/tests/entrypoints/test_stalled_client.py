"""Fault 44: a client that sends and never reads is cut off, and the work of its request ends."""

import asyncio
import socket
from typing import Any

import pytest
import uvicorn

from app.entrypoints.connection import bounded
from app.telemetry.metrics import REGISTRY


def _ended() -> float:
    return REGISTRY.get_sample_value("http_stalled_connections_total") or 0.0


@pytest.mark.anyio
async def test_a_stream_that_nobody_reads_ends_like_one_whose_client_hung_up() -> None:
    left = asyncio.Event()

    async def endless(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})

        async def write() -> None:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        while (await receive())["type"] != "http.disconnect":
            pass
        writing.cancel()
        left.set()

    config = uvicorn.Config(endless, http=bounded(1_000, 0.5), lifespan="off", log_config=None, access_log=False)
    listening = socket.create_server(("127.0.0.1", 0))
    server, before = uvicorn.Server(config), _ended()
    serving = asyncio.create_task(server._serve([listening]))  # without its signal handlers
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, listening.getsockname())
        await asyncio.get_running_loop().sock_sendall(client, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await left.wait()
    server.should_exit = True
    await serving
    assert _ended() == before + 1
