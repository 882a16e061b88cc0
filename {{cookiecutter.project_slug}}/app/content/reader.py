"""The child process that reads one file: bytes on stdin, JSON on stdout, and nothing else it could do.

Started by `documents.py` with Python's isolated mode, by its path: it imports nothing of the service.

Gate: validation.
"""

import io
import json
import resource
import sys
import zipfile

MEMORY = 512 * 1024 * 1024
PROCESSOR_SECONDS = 5
MOST_PAGES = 200
MOST_UNPACKED = 20_000_000
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


class Refused(Exception):
    """Told to whoever sent the file; carries nothing of its content."""


def main() -> None:
    raw, kind = sys.stdin.buffer.read(), sys.argv[1]
    _confine()
    try:
        told = {"text": _pdf(raw) if kind == "PDF" else _word(raw)}
    except Refused as refusal:
        told = {"refused": str(refusal)}
    except MemoryError:
        told = {"refused": "it takes too much to read"}
    except Exception:  # noqa: BLE001 - a hostile file may break its reader in any way
        told = {"refused": "it is damaged"}
    json.dump(told, sys.stdout)


def _confine() -> None:
    """From here on: no file can be written, no process started, and memory and processor time run out."""
    limits = {
        resource.RLIMIT_AS: MEMORY,
        resource.RLIMIT_CPU: PROCESSOR_SECONDS,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_CORE: 0,
    }
    for what, limit in limits.items():
        resource.setrlimit(what, (limit, limit))


def _pdf(raw: bytes) -> str:
    from pypdf import PdfReader  # noqa: PLC0415 - after the limits are set: also its import is confined

    reader = PdfReader(io.BytesIO(raw))
    if reader.is_encrypted:
        raise Refused("it is encrypted")
    if len(reader.pages) > MOST_PAGES:
        raise Refused(f"it may have at most {MOST_PAGES} pages")
    return "\n\n".join(page.extract_text() for page in reader.pages)


def _word(raw: bytes) -> str:
    from defusedxml.ElementTree import fromstring  # noqa: PLC0415 - refuses entities, so no file or address is read

    with zipfile.ZipFile(io.BytesIO(raw)).open("word/document.xml") as part:
        xml = part.read(MOST_UNPACKED + 1)
    if len(xml) > MOST_UNPACKED:
        raise Refused("the archive unpacks to more than a document would")
    paragraphs = fromstring(xml, forbid_dtd=True).iter(f"{WORD}p")
    return "\n".join("".join(text.text or "" for text in paragraph.iter(f"{WORD}t")) for paragraph in paragraphs)


if __name__ == "__main__":
    main()
