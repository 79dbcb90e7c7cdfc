"""Reads text files of users, and explains what is wrong with files that are not plain text."""

import codecs
import json
import unicodedata

# UTF-32 comes before UTF-16, whose little-endian mark is a prefix of that of UTF-32.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_FORMATS = {
    b"PK\x03\x04": "a zip archive or a workbook (.xlsx, .ods)",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"\x1f\x8b": "compressed by gzip",
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"%PDF": "a PDF document",
}
# Characters without width, which are invisible. Editors and web pages may leave them in a name.
_INVISIBLE = str.maketrans("", "", "\u200b\u2060\ufeff\u00ad")


def decode(content: bytes, name: str) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
      content: the file's bytes.
      name: the file's name, for messages.

    Raises:
      ValueError: if the content is not text in UTF-8; the message names its probable format.
    """
    if encoding := _other_encoding(content):
        raise ValueError(f"{name}: the file is in {encoding}; save it as UTF-8")
    for start, kind in _FORMATS.items():
        if content.startswith(start):
            raise ValueError(f"{name}: the file is {kind}, not plain text")
    if b"\0" in content:
        raise ValueError(f"{name}: the file is binary, not plain text")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{name}, line {line}: byte 0x{content[error.start]:02X} is not UTF-8; the file is "
            "probably in cp1252 or Latin-1, as Windows programs write it; save it as UTF-8"
        ) from None


def _other_encoding(content: bytes) -> str | None:
    """UTF-16 or UTF-32, by the byte order mark or by the zeros between ASCII characters."""
    for mark, encoding in _MARKS.items():
        if content.startswith(mark):
            return encoding
    start = content[:1000]
    zeros = start[0::2].count(0), start[1::2].count(0)
    if len(start) >= 2 and max(zeros) == len(start) // 2 and min(zeros) == 0:
        return "UTF-16"
    return None


def clean(name: str) -> str:
    """A name without blanks at its ends, repeated blanks and invisible characters.

    Letters with accents get their composed form (NFC), since the two forms look the same.
    """
    visible = unicodedata.normalize("NFC", name).translate(_INVISIBLE)
    return " ".join(visible.split())


def quoted(name: str) -> str:
    """A name for a message: quoted, with control characters escaped, and shortened if long."""
    short = name if len(name) <= 60 else name[:57] + "..."
    return json.dumps(short, ensure_ascii=False)
