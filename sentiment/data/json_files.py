"""JSON files: one object per line, an array of objects, or an object with such an array; nested fields by path."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

from sentiment.data.columns import looks_like_text
from sentiment.data.labels import shorten
from sentiment.data.streams import iterate_lines, open_text
from sentiment.exceptions import InputError, require

Record = dict[str, Any]
CHUNK_CHARACTERS = 1_000_000
LONGEST_ROW = 100_000_000  # characters


class RepeatedNameError(ValueError):
    """Two columns of an object have the same name, of which only one could be read."""

    def __init__(self, name: str):
        super().__init__(f"has two columns named {shorten(name)!r}: rename one of them")


def read_json_records(path: str, encoding: str | None = None) -> Iterator[tuple[int, Record]]:
    """Number and content of each object; those of lines are numbered by line, those of an array from 1."""
    with open_text(path, encoding, newline=None) as stream:
        start = stream.read(CHUNK_CHARACTERS).lstrip()
    if start.startswith("["):
        yield from read_array(path, encoding)
    elif is_wrapped_array(start):
        yield from read_wrapped_array(path, encoding)
    else:
        for number, line in iterate_lines(path, encoding):
            if line.strip():
                yield number, parse_object(f"{path}: line {number}", line)


def is_wrapped_array(start: str) -> bool:
    """Whether a text begins with an object over several lines, or is one that holds an array of objects and no text."""
    first_line, _, rest = start.partition("\n")
    try:
        found = json.loads(first_line)
    except (ValueError, RecursionError):
        # A line that is damaged, or the first of an object over several ones; the latter ends within a name or value.
        return first_line.rstrip().endswith(("{", "[", ",")) and bool(rest)
    if rest.strip() or not isinstance(found, dict) or any(map(looks_like_text, found)):
        return False
    return sum(map(is_list_of_objects, found.values())) == 1


def is_list_of_objects(value: Any) -> bool:
    """Whether a value is a list of objects only."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def read_wrapped_array(path: str, encoding: str | None) -> Iterator[tuple[int, Record]]:
    """The objects of the only array of objects in an object."""
    with open_text(path, encoding, newline=None) as stream:
        text = stream.read(LONGEST_ROW + 1)
    require(len(text) <= LONGEST_ROW, f"{path}: too long for one JSON object; save one object per line")
    content = parse_object(path, text)
    lists = [name for name, value in content.items() if is_list_of_objects(value)]
    require(
        len(lists) == 1,
        f"{path}: a JSON object without one list of objects (its keys: {shorten(', '.join(content), 60)}); save an "
        "array of objects, or one object per line",
    )
    for number, record in enumerate(content[lists[0]], start=1):
        yield number, flatten(record, f"{path}: object {number} of {lists[0]!r}")


def read_array(path: str, encoding: str | None) -> Iterator[tuple[int, Record]]:
    """The objects of an array, read piece by piece."""
    decoder, number = json.JSONDecoder(object_pairs_hook=build_object), 0
    with open_text(path, encoding, newline=None) as stream:
        buffer = read_more(path, stream, "").lstrip()[1:]
        while True:
            buffer = buffer.lstrip(" \t\n,") if number else buffer.lstrip()
            if not buffer:
                buffer = read_more(path, stream, "")
                require(bool(buffer), f"{path}: the array is not closed after object {number}: the file is cut off")
                continue
            if buffer[0] == "]":
                rest = buffer[1:].strip() or stream.read(CHUNK_CHARACTERS).strip()
                require(not rest, f"{path}: text after the array: {shorten(rest, 40)!r}")
                return
            try:
                record, end = decoder.raw_decode(buffer)
            except RepeatedNameError as error:
                raise InputError(f"{path}: object {number + 1} of the array {error}") from None
            except (ValueError, RecursionError) as error:
                more = read_more(path, stream, buffer)
                if len(more) == len(buffer):
                    reason = shorten(error.msg if isinstance(error, json.JSONDecodeError) else str(error))
                    raise InputError(f"{path}: object {number + 1} of the array is not JSON: {reason}") from None
                buffer = more
                continue
            number += 1
            found = shorten(repr(record))
            require(isinstance(record, dict), f"{path}: element {number} of the array is no object, but {found}")
            yield number, flatten(record, f"{path}: object {number} of the array")
            buffer = buffer[end:]


def read_more(path: str, stream: TextIO, buffer: str) -> str:
    """The buffer with more text after it."""
    require(len(buffer) <= LONGEST_ROW, f"{path}: an object has over {LONGEST_ROW:,} characters, or is not JSON")
    return buffer + stream.read(max(CHUNK_CHARACTERS, len(buffer)))


def build_object(pairs: list[tuple[str, Any]]) -> Record:
    """An object; raises RepeatedNameError if two of its columns have the same name."""
    record = dict(pairs)
    if len(record) < len(pairs):
        raise RepeatedNameError(next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1))
    return record


def parse_object(where: str, text: str) -> Record:
    """The JSON object in a text; raises InputError if it is none, or has two columns with the same name."""
    try:
        record = json.loads(text, object_pairs_hook=build_object)
    except RepeatedNameError as error:
        raise InputError(f"{where} {error}") from None
    except (ValueError, RecursionError) as error:
        reason = shorten(error.msg if isinstance(error, json.JSONDecodeError) else str(error))
        raise InputError(f"{where} is not JSON: {reason}; one object per line is needed") from None
    if not isinstance(record, dict):
        raise InputError(f"{where} is not a JSON object with columns, but {shorten(repr(record))}")
    return flatten(record, where)


def flatten(record: Record, where: str, prefix: str = "") -> Record:
    """The object with the fields of nested objects under their paths; raises InputError if two have the same.

    >>> flatten({"id": 1, "review": {"text": "good", "votes": {"up": 3}}}, "a.json: object 1")
    {'id': 1, 'review.text': 'good', 'review.votes.up': 3}
    """
    if not any(isinstance(value, dict) for value in record.values()):
        return {prefix + name: value for name, value in record.items()} if prefix else record
    flat: Record = {}
    for name, value in record.items():
        found = flatten(value, where, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        if repeated := flat.keys() & found.keys():
            raise InputError(f"{where} {RepeatedNameError(min(repeated))}")
        flat |= found
    return flat
