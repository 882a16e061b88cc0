"""Documents that come as files: what they are, by their bytes, and their text, read in a process of its own.

A name or a declared type is a claim. The bytes decide, and must agree with the name. Reading a file is the most exposed
code a service has, so it happens in a child process without environment, with limits of memory, processor time and
output, that can open nothing for writing; whatever it does, it is killed after some seconds (OWASP ASVS 5.0, 5.2 and
1.5.1). Gate: validation.
"""

import asyncio
import io
import json
import sys
import zipfile
from asyncio.subprocess import DEVNULL, PIPE
from contextlib import suppress
from datetime import timedelta
from pathlib import Path, PurePosixPath

import anyio

from app.background import run_to_completion
from app.content.readers import ReaderPool

PDF, DOCX, TEXT = "PDF", "Word document", "text"
ENDINGS = {
    ".pdf": PDF, ".docx": DOCX, ".txt": TEXT, ".md": TEXT, ".csv": TEXT, ".json": TEXT, ".log": TEXT, ".eml": TEXT,
}  # fmt: skip
MOST_BYTES = 5_000_000
MOST_UNPACKED = 20_000_000
MOST_RATIO = 100  # unpacked to packed, of the whole and of each part
MOST_PARTS = 1_000
MOST_CHARACTERS = 100_000
DEADLINE = timedelta(seconds=10)
_READERS = ReaderPool()  # of this process


class DocumentRefused(Exception):
    """The file is not one that is read here; the message says why, without any of its content."""


async def text_of(name: str, raw: bytes, tenant_id: str, readers: ReaderPool = _READERS) -> str:
    """The text of a file. Raises DocumentRefused, and ReadersBusy where too many of the tenant's are being read."""
    kind = checked(name, raw)
    if kind == TEXT:
        return _whole(raw.decode("utf-8-sig"))
    async with readers.turn(tenant_id):
        return _whole(await _read(kind, raw))


def checked(name: str, raw: bytes) -> str:
    """What the bytes are, if they are what the name says and unpack to a sensible size. Raises DocumentRefused."""
    kind = _kind(raw)
    said = ENDINGS.get(PurePosixPath(name.lower()).suffix)
    if len(raw) > MOST_BYTES:
        raise DocumentRefused(f"a file may have at most {MOST_BYTES} bytes")
    if kind is None and said == TEXT:
        raise DocumentRefused("it is not UTF-8 text")
    if kind is None or said is None:
        raise DocumentRefused(f"not a kind of file that is read here; these are: {', '.join(ENDINGS)}")
    if kind != said:
        raise DocumentRefused(f"its name says {said}, its content is {kind}")
    if kind == DOCX:
        _require_sensible(raw)
    return kind


def _kind(raw: bytes) -> str | None:
    if raw.startswith(b"%PDF-"):
        return PDF
    if raw.startswith(b"PK\x03\x04"):
        return DOCX if b"word/document.xml" in raw else None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else TEXT


def _require_sensible(raw: bytes) -> None:
    """By the archive's own directory, before anything is unpacked; the reader counts again what comes out."""
    try:
        parts = zipfile.ZipFile(io.BytesIO(raw)).infolist()
    except Exception:  # noqa: BLE001 - a hostile archive may break its reader in any way
        raise DocumentRefused("the archive is damaged") from None
    unpacked = sum(part.file_size for part in parts)
    worst = max((part.file_size / max(1, part.compress_size) for part in parts), default=0)
    if len(parts) > MOST_PARTS or unpacked > MOST_UNPACKED or worst > MOST_RATIO:
        raise DocumentRefused("the archive unpacks to more than a document would")


async def _read(kind: str, raw: bytes) -> str:
    command = [sys.executable, "-I", str(Path(__file__).with_name("reader.py")), kind]
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/")
    try:
        with anyio.fail_after(DEADLINE.total_seconds()):
            said, _ = await process.communicate(raw)
    except TimeoutError:
        raise DocumentRefused("it takes too long to read") from None
    finally:
        # Whoever is cancelled leaves no process behind, and gives up the place of a reader once it has ended.
        with suppress(ProcessLookupError):
            process.kill()
        await run_to_completion(process.wait())
    try:
        told = json.loads(said)
    except ValueError:  # killed by one of its limits
        raise DocumentRefused("it takes too much to read") from None
    if "refused" in told:
        raise DocumentRefused(told["refused"])
    return str(told["text"])


def _whole(text: str) -> str:
    if len(text) > MOST_CHARACTERS:
        raise DocumentRefused(f"its text may have at most {MOST_CHARACTERS} characters")
    if not text.strip():
        raise DocumentRefused("there is no text in it")
    return text.replace("\0", "").encode("utf-8", "replace").decode()  # a font may map to what is no character
