"""Room cli: the files `import` reads. Each reader yields the number of a line and what stands there, as it goes.

What cannot be read in one line is yielded in the place of its values; the reader goes on with the next. No problem
says more of a line than its number: there is a secret in it.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import yaml

from ..errors import InvalidField
from ..keys.record import FIELD_NAMES
from ..yaml_text import SECTION, TextLoader

MAX_LINE_BYTES = 128 * 1024  # a key with all its fields at their largest has about 50,000
MAX_YAML_BYTES = 64 * 1024 * 1024
LIST_SEPARATOR = ";"
LISTS = frozenset(("scopes", "networks", "limits", "quotas"))
COLUMNS = ("secret", "sha256", "hint", *FIELD_NAMES)

Row: TypeAlias = tuple[int, Mapping[str, Any] | InvalidField]
Reader: TypeAlias = Callable[[BinaryIO], Iterator[Row]]

_BOM = b"\xef\xbb\xbf"
_NOT_UTF8 = "is not UTF-8; save the file as UTF-8"


class LineProblem(InvalidField):
    """What is wrong with a line as a whole."""

    def __init__(self, problem: str) -> None:
        super().__init__("line", problem)

    def __str__(self) -> str:
        return self.problem


class Unreadable(Exception):
    """The file cannot be read beyond a line."""

    def __init__(self, line: int, problem: str) -> None:
        self.line = line
        self.problem = problem
        super().__init__(f"line {line}: {problem}")


def reader_of(path: Path) -> Reader | None:
    """Return what reads a file of this name, or None."""
    return {
        ".csv": read_csv,
        ".yml": read_yaml,
        ".yaml": read_yaml,
        ".jsonl": read_json_lines,
        ".ndjson": read_json_lines,
        ".json-lines": read_json_lines,
    }.get(path.suffix.lower())


def _lines(file: BinaryIO) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers.

    Raises:
        Unreadable: A line is too long or is not UTF-8.
    """
    number = 0
    while raw := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            raise Unreadable(number, f"is over {MAX_LINE_BYTES} bytes long; is this the right file?")
        if number == 1:
            raw = raw.removeprefix(_BOM)
        try:
            yield number, raw.decode()
        except UnicodeDecodeError:
            raise Unreadable(number, _NOT_UTF8) from None


def read_csv(file: BinaryIO) -> Iterator[Row]:
    """Yield the rows of a CSV file, as in RFC 4180, with a head that names the columns. Empty values are none.

    Raises:
        Unreadable: The head cannot be used, a quote is not closed, or a line is too long or is not UTF-8.
    """
    number = 0
    rows = csv.reader((text for _, text in _lines(file)), strict=True)
    names: list[str] | None = None
    while True:
        number = rows.line_num + 1  # where the row begins; a quoted value may go on for several lines
        try:
            row = next(rows)
        except StopIteration:
            break
        except csv.Error:
            raise Unreadable(number, "has a quote that is not closed, or text after a quote") from None
        if names is None:
            names = _head(row, number)
        elif not row:
            continue
        elif len(row) != len(names):
            yield number, LineProblem(f"has {len(row)} values; the head has {len(names)}")
        else:
            yield number, {n: _split(v) if n in LISTS else v for n, v in zip(names, row, strict=True) if v}
    if names is None:
        raise Unreadable(1, "is empty; begin with a line that names the columns, such as secret,name,owner")


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, ...]:
    return tuple(part for item in text.split(LIST_SEPARATOR) if (part := item.strip()))


def _head(row: list[str], line: int) -> list[str]:
    names = [name.strip().lower() for name in row]
    if len(names) == 1 and ";" in names[0]:
        raise Unreadable(line, "has `;` between the columns; save the file with commas")
    for name in names:
        if name not in COLUMNS:
            near = difflib.get_close_matches(name, COLUMNS, n=1)
            advice = f"did you mean {near[0]}?" if near else f"there are {', '.join(COLUMNS)}, with commas between"
            # A head that is none is perhaps the first key, with its secret in it: name no column that is far off.
            raise Unreadable(line, f"{f'the column {name!r}' if near else 'a column'} is not known; {advice}")
    if len(set(names)) < len(names):
        raise Unreadable(line, "names a column twice")
    if "name" not in names:
        raise Unreadable(line, "names no column `name`: what each client is called")
    if not {"secret", "sha256"} & set(names):
        raise Unreadable(line, "names neither a column `secret` nor a column `sha256`")
    return names


def read_json_lines(file: BinaryIO) -> Iterator[Row]:
    """Yield the objects of a file of JSON lines, one a line.

    Raises:
        Unreadable: The file is empty, or a line is too long or is not UTF-8.
    """
    number = 0
    for number, text in _lines(file):
        if text.isspace():
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError):
            yield number, LineProblem("is no JSON")
            continue
        yield number, values if isinstance(values, dict) else LineProblem("is no JSON object")
    if not number:
        raise Unreadable(1, 'is empty; write one object a line, such as {"secret": "...", "name": "..."}')


def read_yaml(file: BinaryIO) -> Iterator[Row]:
    """Yield the keys of a YAML file, which is read whole: a list of mappings, or a mapping as the file store has it.

    Raises:
        Unreadable: It is neither, is no YAML, has over 64 MiB, or is not UTF-8.
    """
    data = file.read(MAX_YAML_BYTES + 1)
    if len(data) > MAX_YAML_BYTES:
        raise Unreadable(1, f"the file has over {MAX_YAML_BYTES} bytes; write so many keys as CSV or JSON lines")
    try:
        loader = TextLoader(data.decode())
        root = loader.get_single_node()
    except UnicodeDecodeError as error:
        raise Unreadable(data.count(b"\n", 0, error.start) + 1, _NOT_UTF8) from None
    except yaml.YAMLError as error:
        raise Unreadable(_yaml_line(error), "is no YAML") from None
    except RecursionError:
        raise Unreadable(1, "is nested too deeply") from None
    if isinstance(root, yaml.MappingNode):
        yield from _of_mapping(loader, _section(root))
    elif isinstance(root, yaml.SequenceNode):
        for node in root.value:
            yield _line(node), _built(loader, node)
    else:
        raise Unreadable(1, "holds no keys; write a list of mappings, or a mapping of secret to name")


def _section(root: yaml.MappingNode) -> yaml.MappingNode:
    inner = (value for key, value in root.value if key.value == SECTION and isinstance(value, yaml.MappingNode))
    return next(inner, root)


def _of_mapping(loader: TextLoader, node: yaml.MappingNode) -> Iterator[Row]:
    for key_node, value_node in node.value:
        line = _line(key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            yield line, LineProblem("must be a secret, or sha256:<hex>, and then a name or a table of fields")
        elif isinstance(value_node, yaml.ScalarNode):
            yield line, {"secret": key_node.value, "name": value_node.value}
        else:
            values = _built(loader, value_node)
            yield line, values if isinstance(values, InvalidField) else {**values, "secret": key_node.value}


def _built(loader: TextLoader, node: yaml.Node) -> Mapping[str, Any] | InvalidField:
    if not isinstance(node, yaml.MappingNode):
        return LineProblem("must be a mapping of fields, such as {secret: ..., name: ...}")
    try:
        values = loader.construct_document(node)
    except (InvalidField, yaml.YAMLError, RecursionError):
        return LineProblem("names a field twice or is nested wrongly")
    return values if isinstance(values, dict) else LineProblem("must be a mapping of fields")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _yaml_line(error: yaml.YAMLError) -> int:
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark is not None else 1
