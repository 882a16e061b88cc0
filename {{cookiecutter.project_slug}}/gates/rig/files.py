"""Small documents made on the spot, honest and hostile ones."""

import io
import zipfile
import zlib

NAMESPACE = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(*pages: str, filler: int = 0) -> bytes:
    """A PDF (ISO 32000) with a line of text a page; `filler` adds so many bytes of white space, packed, to each."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode()]
    font = b"<< /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    for number, text in enumerate(pages):
        packed = zlib.compress(f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() + b" " * filler)
        head = f"/Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * number} 0 R".encode()
        objects.append(b"<< " + head + b" /Resources " + font + b" >>")
        size = f"<< /Length {len(packed)} /Filter /FlateDecode >>".encode()
        objects.append(size + b"\nstream\n" + packed + b"\nendstream")
    out, places = io.BytesIO(), []
    out.write(b"%PDF-1.7\n")
    for number, body in enumerate(objects, 1):
        places.append(out.tell())
        out.write(f"{number} 0 obj\n".encode() + body + b"\nendobj\n")
    table = out.tell()
    out.write(f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode())
    out.writelines(f"{place:010} 00000 n \n".encode() for place in places)
    out.write(f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n".encode())
    return out.getvalue()


def word(text: str, *, before: str = "", parts: int = 0, filler: int = 0) -> bytes:
    """A Word document (ECMA-376); `before` stands in front of its root, `parts` are empty ones, `filler` unpacks."""
    paragraph = f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"
    xml = f'<?xml version="1.0"?>{before}<w:document xmlns:w="{NAMESPACE}"><w:body>{paragraph}'
    xml += " " * filler + "</w:body></w:document>"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", xml)
        for number in range(parts):
            archive.writestr(f"word/part{number}.xml", "")
    return out.getvalue()
