"""The bytes and the lines of a file: decompressed, decoded, and bounded in size."""

import codecs
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import pyarrow as pa
from charset_normalizer import from_bytes

from sentiment.exceptions import InputError, first_line, require

COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
ZIP = b"PK\x03\x04"
COMPRESSED_SUFFIXES = (".gz", ".zip", ".zst")
SAMPLE_BYTES = 65_536
# A small archive can hold gigabytes of nothing; texts shrink to a third or a tenth.
LARGEST_RATIO = 200
FREE_BYTES = 100_000_000
COMMON_ENCODINGS = ("cp1252", "cp1250", "cp1251", "gb18030", "big5", "shift_jis", "euc_kr")  # beside UTF-8
# Marks at the start of a file. UTF-32 begins like UTF-16, so it is looked for first.
MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
         (codecs.BOM_UTF16_BE, "utf-16"), (codecs.BOM_UTF8, "utf-8-sig"))  # fmt: skip


class BoundedStream(io.RawIOBase):
    """The bytes of a decompressor; raises InputError beyond `limit` bytes, or where the archive is damaged."""

    def __init__(self, stream: BinaryIO, where: str, limit: int):
        self.stream, self.where, self.limit, self.count = stream, where, limit, 0

    def close(self) -> None:
        """Close the decompressor too."""
        self.stream.close()
        super().close()

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        """Read up to the size of the buffer; returns the number of bytes."""
        try:
            content = self.stream.read(len(buffer))
        except (OSError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError, pa.ArrowException) as error:
            raise InputError(f"{self.where}: damaged or encrypted ({first_line(error)}); copy it again") from error
        self.count += len(content)
        require(self.count <= self.limit, f"{self.where}: over {self.limit:,} bytes when decompressed: unpack it first")
        buffer[: len(content)] = content
        return len(content)


def open_bytes(path: str) -> BinaryIO:
    """The bytes of a file; those of a `.gz`, `.zst`, or `.zip` with one file, decompressed, are bounded in size."""
    with Path(path).open("rb") as file:
        start = file.read(4)
    size = Path(path).stat().st_size
    limit = FREE_BYTES + LARGEST_RATIO * size
    compression = COMPRESSIONS.get(start[:2]) or COMPRESSIONS.get(start)
    if compression:
        stream = pa.CompressedInputStream(pa.OSFile(path), compression)
        return io.BufferedReader(BoundedStream(stream, path, limit), SAMPLE_BYTES)
    if start == ZIP and not is_spreadsheet(path):
        archive = zipfile.ZipFile(path)
        return io.BufferedReader(
            BoundedStream(cast(BinaryIO, archive.open(find_member(path))), path, limit), SAMPLE_BYTES
        )
    return Path(path).open("rb")


def list_members(path: str) -> list[str]:
    """The files in a zip archive, without those that systems add; raises InputError if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{path}: a damaged zip archive ({first_line(error)}); copy it again") from error
    return [name for name in names if not name.startswith("__MACOSX/") and not Path(name).name.startswith(".")]


def find_member(path: str) -> str:
    """The only file in a zip archive."""
    names = list_members(path)
    found = ", ".join(names[:5]) or "none"
    require(len(names) == 1, f"{path}: holds {len(names)} files ({found}): unpack it, and pass a file or the folder")
    return names[0]


def is_spreadsheet(path: str) -> bool:
    """Whether a zip archive is an Excel workbook."""
    return "xl/workbook.xml" in list_members(path)


def get_suffix(path: str) -> str:
    """The suffix of the content in lower case: that of a compressed file without `.gz` or `.zst`, or in the archive."""
    name = Path(path)
    if name.suffix.lower() in COMPRESSED_SUFFIXES:
        with name.open("rb") as file:
            is_zip = file.read(4) == ZIP
        name = Path(find_member(path)) if is_zip else name.with_suffix("")
    return name.suffix.lower()


def read_sample(path: str) -> bytes:
    """The first bytes of the content."""
    with open_bytes(path) as stream:
        return stream.read(SAMPLE_BYTES)


def find_encoding(sample: bytes) -> str:
    """The encoding of a text by its mark, else UTF-16 by its zero bytes, else UTF-8."""
    for mark, encoding in MARKS:
        if sample.startswith(mark):
            return encoding
    even, odd = (part.count(0) / max(8, len(part)) for part in (sample[0:2000:2], sample[1:2000:2]))
    if max(even, odd) > 0.3 and min(even, odd) < 0.1:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8"


def open_text(path: str, encoding: str | None = None, newline: str | None = "") -> TextIO:
    """The text of a file; bytes that are invalid in its encoding become lone surrogates (`surrogateescape`).

    `encoding` is by default found by `find_encoding`; raises InputError for one that Python does not know.
    """
    try:
        codec = codecs.lookup(encoding).name if encoding else find_encoding(read_sample(path))
    except LookupError as error:
        raise InputError(
            f"--encoding {encoding}: Python knows no such encoding; try utf-8, cp1252 or gb18030"
        ) from error
    codec = "utf-8-sig" if codec == "utf-8" else codec
    is_single_byte = codec.startswith(("cp125", "iso8859", "latin"))
    problem = f"--encoding {encoding}: {path} is UTF-8, which would be read as other letters: omit --encoding"
    require(not (is_single_byte and is_non_ascii_utf8(read_sample(path))), problem)
    if codec.startswith("utf-16-") and read_sample(path).startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        codec = "utf-16"  # which takes the mark off
    return io.TextIOWrapper(open_bytes(path), encoding=codec, errors="surrogateescape", newline=newline)


def is_non_ascii_utf8(sample: bytes) -> bool:
    """Whether the start of a file, which may end within a character, is UTF-8 with other characters than ASCII."""
    try:
        return not codecs.getincrementaldecoder("utf-8")().decode(sample).isascii()
    except UnicodeDecodeError:
        return False


def suggest_encoding(path: str) -> str:
    """An encoding that the start of a file, which is not UTF-8, may have; `cp1252` if nothing better is found."""
    sample = read_sample(path)
    found = from_bytes(sample, cp_isolation=[*COMMON_ENCODINGS]).best()
    if found is None or sample.decode(found.encoding, "replace") == sample.decode(COMMON_ENCODINGS[0], "replace"):
        return COMMON_ENCODINGS[0]  # of those that read it alike, the most common
    return found.encoding


def iterate_lines(path: str, encoding: str | None = None) -> Iterator[tuple[int, str]]:
    """Number and text of each line, without its end."""
    with open_text(path, encoding, newline=None) as lines:
        for number, line in enumerate(lines, start=1):
            yield number, line.rstrip("\n")
