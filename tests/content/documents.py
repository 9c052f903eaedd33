"""Small documents, built by hand: what the readers are tested on."""

import io
import json
import tarfile
import zipfile
from xml.sax.saxutils import escape

OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"


def pdf(pages: list[str], *, trailer: str = "") -> bytes:
    """A page per text; an empty text makes a page that shows nothing, like a scan."""
    count = len(pages)
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {count} /Kids [{' '.join(f'{4 + 2 * n} 0 R' for n in range(count))}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        shown = " T* ".join(f"({line}) Tj" for line in text.splitlines())
        stream = f"BT /F1 12 Tf 14 TL 72 720 Td {shown} ET" if text else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (
        out
        + (
            f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
            f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {trailer} >>\nstartxref\n{len(out)}\n%%EOF\n"
        ).encode()
    )


def encrypted_pdf(pages: list[str], *, cipher: int = 2) -> bytes:
    """Marked as encrypted with a password that nobody knows (`cipher` 5 needs AES)."""
    key = "00" * 32
    fields = (
        f"/Encrypt << /Filter /Standard /V {cipher} /R {3 if cipher < 5 else 6} /Length 128 /P -4 /O <{key}> /U <{key}>"
    )
    fields += f" /OE <{key}> /UE <{key}> /Perms <{'00' * 16}>" if cipher == 5 else ""
    return pdf(pages, trailer=f"{fields} >> /ID [<{'00' * 16}> <{'00' * 16}>]")


def zipped(files: dict[str, str | bytes], *, packed: bool = True) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", extra: list[tarfile.TarInfo] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra or []:
            archive.addfile(info)
    return out.getvalue()


def docx(*body: str) -> bytes:
    """Paragraphs as text, or whole elements as XML."""
    elements = [part if part.startswith("<") else f"<w:p><w:r><w:t>{escape(part)}</w:t></w:r></w:p>" for part in body]
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    return zipped(
        _package("word/document.xml", kind)
        | {"word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{"".join(elements)}</w:body></w:document>'}
    )


def xlsx(sheets: dict[str, dict[str, str | float]]) -> bytes:
    """Sheets of cells by address ("B2"); what begins with "#" is an error."""
    names = list(sheets)
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
    files = _package("xl/workbook.xml", kind)
    listed = "".join(f'<sheet name="{escape(n)}" sheetId="{i}" r:id="rId{i}"/>' for i, n in enumerate(names, 1))
    files["xl/workbook.xml"] = f'<workbook xmlns="{SHEET}" xmlns:r="{OFFICE}"><sheets>{listed}</sheets></workbook>'
    files["xl/_rels/workbook.xml.rels"] = _relations(
        {f"rId{i}": ("worksheet", f"worksheets/sheet{i}.xml") for i in range(1, len(names) + 1)}
    )
    for number, name in enumerate(names, 1):
        rows: dict[int, str] = {}
        for address, value in sheets[name].items():
            row = int(address.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
            if isinstance(value, str) and value.startswith("#"):
                cell = f'<c r="{address}" s="1" t="e"><f>1/0</f><v>{value}</v></c>'
            elif isinstance(value, str):
                cell = f'<c r="{address}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
            else:
                cell = f'<c r="{address}"><v>{value}</v></c>'
            rows[row] = rows.get(row, "") + cell
        body = "".join(f'<row r="{row}">{cells}</row>' for row, cells in sorted(rows.items()))
        files[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{SHEET}"><sheetData>{body}</sheetData></worksheet>'
        )
    return zipped(files)


def ods(sheets: dict[str, list[list[str]]]) -> bytes:
    tables = "".join(
        f'<table:table table:name="{name}">'
        + "".join(
            "<table:table-row>"
            + "".join(
                f'<table:table-cell office:value-type="string"><text:p>{escape(cell)}</text:p></table:table-cell>'
                for cell in row
            )
            + "</table:table-row>"
            for row in rows
        )
        + "</table:table>"
        for name, rows in sheets.items()
    )
    space = "urn:oasis:names:tc:opendocument:xmlns"
    mimetype = "application/vnd.oasis.opendocument.spreadsheet"
    return zipped(
        {
            "mimetype": mimetype,
            "META-INF/manifest.xml": f'<manifest:manifest xmlns:manifest="{space}:manifest:1.0"><manifest:file-entry '
            f'manifest:full-path="/" manifest:media-type="{mimetype}"/></manifest:manifest>',
            "content.xml": f'<office:document-content xmlns:office="{space}:office:1.0" '
            f'xmlns:table="{space}:table:1.0" xmlns:text="{space}:text:1.0"><office:body><office:spreadsheet>'
            f"{tables}</office:spreadsheet></office:body></office:document-content>",
        },
        packed=False,
    )


def notebook(*cells: dict) -> bytes:
    return json.dumps({"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def _package(main: str, kind: str) -> dict[str, str | bytes]:
    return {
        "[Content_Types].xml": f'<Types xmlns="{PACKAGE}/content-types"><Default Extension="rels" '
        f'ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" '
        f'ContentType="application/xml"/><Override PartName="/{main}" ContentType="{kind}"/></Types>',
        "_rels/.rels": _relations({"rId1": ("officeDocument", main)}),
    }


def _relations(targets: dict[str, tuple[str, str]]) -> str:
    rows = "".join(f'<Relationship Id="{i}" Type="{OFFICE}/{k}" Target="{t}"/>' for i, (k, t) in targets.items())
    return f'<Relationships xmlns="{PACKAGE}/relationships">{rows}</Relationships>'
