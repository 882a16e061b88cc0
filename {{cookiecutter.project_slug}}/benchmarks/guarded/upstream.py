"""A model provider that answers every request alike, at once or after so many milliseconds: DELAY_MS, PORT."""

import asyncio
import json
import os

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "probe-model-1",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "It is noon in Lisbon."}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 24, "completion_tokens": 8, "total_tokens": 32},
    }
).encode()  # fmt: skip
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    delay = int(os.environ.get("DELAY_MS", "0")) / 1_000
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            _, found, rest = head.partition(b"content-length:")
            if found:
                await reader.readexactly(int(rest.partition(b"\r\n")[0]))
            if delay:
                await asyncio.sleep(delay)
            writer.write(HEAD + ANSWER)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", int(os.environ["PORT"]))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
