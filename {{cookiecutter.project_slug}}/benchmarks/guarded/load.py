"""Closed-loop load over kept connections: each sends its next request when it has its answer."""

import asyncio
import statistics
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Of one round: answers a second, milliseconds to an answer, and answers that were none."""

    rate: float
    p50_ms: float
    p95_ms: float
    failed: int


async def _connection(port: int, request: bytes, until: float, seconds: list[float], failed: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(size)
        seconds.append(time.perf_counter() - began)
        if not head.startswith(b"HTTP/1.1 200"):
            failed.append(body)
    writer.close()


async def _round(port: int, request: bytes, connections: int, duration: float) -> Measured:
    seconds: list[float] = []
    failed: list[bytes] = []
    began = time.perf_counter()
    until = began + duration
    await asyncio.gather(*(_connection(port, request, until, seconds, failed) for _ in range(connections)))
    took = time.perf_counter() - began
    if failed:
        print(f"an answer that was none: {failed[0][:200]!r}")
    ordered = sorted(seconds)
    p95 = ordered[int(len(ordered) * 0.95)] if ordered else 0.0
    return Measured(len(seconds) / took, statistics.median(ordered) * 1_000, p95 * 1_000, len(failed))


def measured(port: int, request: bytes, connections: int, duration: float) -> Measured:
    """One round against a port, from this process."""
    return asyncio.run(_round(port, request, connections, duration))
