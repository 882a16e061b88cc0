"""Files are read in a child process that cannot do anything else. The proof of VAL-07 has the traps."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.content import documents, reader
from app.content.documents import DocumentRefused, text_of
from gates.rig.files import pdf, word

pytestmark = pytest.mark.anyio


async def test_the_text_of_each_kind_is_read() -> None:
    assert "hello" in await text_of("a.PDF", pdf("hello"), "t-1")
    assert await text_of("a.docx", word("hello"), "t-1") == "hello"
    assert await text_of("a.md", "# café".encode(), "t-1") == "# café"


async def test_a_reader_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text("import time; time.sleep(30)")
    monkeypatch.setattr(documents, "__file__", str(tmp_path / "documents.py"))
    monkeypatch.setattr(documents, "DEADLINE", documents.DEADLINE / 10)
    with pytest.raises(DocumentRefused, match="too long"):
        await text_of("a.pdf", pdf("x"), "t-1")


async def test_whoever_is_cancelled_leaves_no_reader_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reader.py").write_text("import sys, time; sys.stdin.read(); time.sleep(600)")
    monkeypatch.setattr(documents, "__file__", str(tmp_path / "documents.py"))
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    async def noted(*command: Any, **options: Any) -> asyncio.subprocess.Process:
        started.append(await start(*command, **options))
        return started[-1]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", noted)
    for number in range(3):  # more than there are places for readers
        task = asyncio.create_task(text_of("a.pdf", pdf("x"), f"tenant-{number}"))
        while len(started) <= number:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert started[number].returncode is not None


@pytest.mark.parametrize(
    "attempt",
    [
        "import os; os.write(os.open('/tmp/reader-wrote', os.O_CREAT | os.O_WRONLY), b'x')",
        "bytearray(2_000_000_000)",
        "while True: pass",
    ],
)
def test_a_reader_cannot_write_or_take_what_it_likes(attempt: str) -> None:
    place = str(Path(reader.__file__).parent)
    code = f"import sys; sys.path.insert(0, {place!r}); import reader; reader._confine()\n{attempt}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300, check=False)
    assert done.returncode != 0
