"""The lines that list what a file is made of: tensors, chunks, and tables of either."""

from __future__ import annotations

from collections.abc import Sequence

from coral_git.limits import Limits
from coral_git.manifest.entries import ChunkEntry, Manifest, TableRef, TensorEntry
from coral_git.manifest.escape import unescape_name
from coral_git.manifest.parts import part_count
from coral_git.manifest.text import MAX_CHUNKS, MAX_TENSORS, SCALAR, LineError, number, object_id
from coral_git.types import DTYPES, DType, ObjectId, tensor_bytes

_Kind = tuple[DType, tuple[int, ...], int, int]

KnownLines = dict[str, tuple[TensorEntry, int]]
"""Lines that were read before, each with its tensor and the bytes of it: versions of a file share most."""


class TensorLines:
    """Reads ``tensor`` lines; names are unique over all that it reads.

    Args:
        limits: the caps.
        known: lines that were read with the same caps; what is read is added.

    Attributes:
        entries: the tensors so far.
        length: their bytes together.
    """

    def __init__(self, limits: Limits, known: KnownLines | None = None) -> None:
        self.entries: list[TensorEntry] = []
        self.length = 0
        self._known = known
        self._limits = limits
        self._name_bytes = limits.name_bytes
        self._names: set[str] = set()
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def read(self, lines: Sequence[str], first: int) -> None:
        """Read lines, of which the first has the number ``first``.

        Raises:
            LineError: a line is malformed, or names a tensor again.
        """
        if len(self.entries) + len(lines) > MAX_TENSORS:
            raise LineError(first, "too many tensors")
        entries, names, known = self.entries, self._names, self._known
        for line_number, line in enumerate(lines, first):
            found = known.get(line) if known else None
            if found is None:
                found = self._read_line(line, line_number)
                if known is not None:
                    known[line] = found
            entry, length = found
            if entry.name in names:
                raise LineError(line_number, "a second tensor of this name")
            names.add(entry.name)
            entries.append(entry)
            self.length += length

    def _read_line(self, line: str, line_number: int) -> tuple[TensorEntry, int]:
        """The tensor of a line, and its bytes."""
        fields = line.split(" ")
        if fields[0] != "tensor" or len(fields) < 4:
            raise LineError(line_number, "no 'tensor' line")
        _, name, dtype_name, shape_text, *ids = fields
        if len(name) > self._name_bytes or not name or "\\" in name:
            name = self._unescape(name, line_number)
        kind = self._kinds.get((dtype_name, shape_text)) or self._kind(dtype_name, shape_text, line_number)
        dtype, shape, length, count = kind
        if len(ids) != count:
            raise LineError(line_number, f"a tensor of {length} bytes has {count} ids, not {len(ids)}")
        return TensorEntry(name, dtype, shape, read_ids(ids, line_number)), length

    def _unescape(self, text: str, line_number: int) -> str:
        """A name that is not simply as it is written."""
        try:
            name = unescape_name(text)
        except ValueError:
            raise LineError(line_number, "the name is not escaped as names are") from None
        if len(name.encode()) > self._name_bytes:
            raise LineError(line_number, f"the name is longer than {self._name_bytes} bytes")
        return name

    def _kind(self, dtype_name: str, shape_text: str, line_number: int) -> _Kind:
        """Dtype, shape, bytes and number of parts; most tensors of a model share a few of them."""
        dtype = DTYPES.get(dtype_name)
        if dtype is None:
            raise LineError(line_number, "an unknown dtype")
        shape = _shape(shape_text, line_number, self._limits)
        length = tensor_bytes(dtype, shape)
        if length is None:
            raise LineError(line_number, "the tensor does not fill whole bytes")
        kind = dtype, shape, length, part_count(dtype, length, self._limits)
        self._kinds[dtype_name, shape_text] = kind
        return kind


class ChunkLines:
    """Reads ``chunk`` lines.

    Attributes:
        entries: the chunks so far.
        length: their bytes together.
    """

    def __init__(self, limits: Limits) -> None:
        self.entries: list[ChunkEntry] = []
        self.length = 0
        self._limits = limits

    def read(self, lines: Sequence[str], first: int) -> None:
        """Read lines, of which the first has the number ``first``.

        Raises:
            LineError: a line is malformed, or a chunk is empty or larger than a part may be.
        """
        if len(self.entries) + len(lines) > MAX_CHUNKS:
            raise LineError(first, "too many chunks")
        for line_number, line in enumerate(lines, first):
            fields = line.split(" ")
            if fields[0] != "chunk" or len(fields) != 3:
                raise LineError(line_number, "no 'chunk' line")
            length = _positive(fields[1], line_number)
            if length > self._limits.part_bytes:
                raise LineError(line_number, f"a chunk of more than {self._limits.part_bytes} bytes")
            self.entries.append(ChunkEntry(length, *read_ids(fields[2:], line_number)))
            self.length += length


def body_reader(
    tensor_count: int | None, limits: Limits, known: KnownLines | None = None
) -> TensorLines | ChunkLines:
    """The reader for the lines of a manifest with or without tensors."""
    return ChunkLines(limits) if tensor_count is None else TensorLines(limits, known)


def finish(manifest: Manifest, body: TensorLines | ChunkLines) -> Manifest:
    """The manifest with its tensors or chunks, if these are as many and as long as it says.

    Raises:
        LineError: they are not.
    """
    entries, length = body.entries, manifest.rest_length + body.length
    if manifest.tensor_count not in (None, len(entries)):
        raise LineError(0, f"there are {len(entries)} tensors, not {manifest.tensor_count}")
    if length != manifest.size:
        raise LineError(0, f"the parts add up to {length} bytes, the size is {manifest.size}")
    if isinstance(body, TensorLines):
        return manifest._replace(tensors=tuple(body.entries), tables=())
    return manifest._replace(chunks=tuple(body.entries), tables=())


def read_tables(lines: Sequence[str], first: int, most: int, limits: Limits) -> tuple[TableRef, ...]:
    """The tables that stand for at most ``most`` lines.

    Raises:
        LineError: a line is malformed, or a table is empty or too long.
    """
    tables = []
    total = 0
    for line_number, line in enumerate(lines, first):
        fields = line.split(" ")
        if fields[0] != "table" or len(fields) != 3:
            raise LineError(line_number, "no 'table' line")
        count = _positive(fields[1], line_number)
        total += count
        if count > limits.table_lines or total > most:
            raise LineError(line_number, "too many lines in tables")
        tables.append(TableRef(count, *read_ids(fields[2:], line_number)))
    return tuple(tables)


def read_ids(words: Sequence[str], line_number: int) -> tuple[ObjectId, ...]:
    """Object ids.

    Raises:
        LineError: a word is none.
    """
    ids = tuple([found for found in map(object_id, words) if found])
    if len(ids) != len(words):
        raise LineError(line_number, "an object id is 64 lower-case hexadecimal digits")
    return ids


def _shape(text: str, line_number: int, limits: Limits) -> tuple[int, ...]:
    if text == SCALAR:
        return ()
    if text.count("x") >= limits.rank:
        raise LineError(line_number, f"more than {limits.rank} dimensions")
    shape = []
    for word in text.split("x"):
        dimension = number(word)
        if dimension is None:
            raise LineError(line_number, "a shape is canonical numbers with 'x' between them, or 'scalar'")
        shape.append(dimension)
    return tuple(shape)


def _positive(text: str, line_number: int) -> int:
    value = number(text)
    if not value:
        raise LineError(line_number, "a length is a canonical number above zero")
    return value
