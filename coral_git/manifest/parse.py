"""The strict reader of manifests: one text, one meaning, and no other text with the same meaning.

Whatever it accepts, ``render`` writes again to the byte.
"""

from __future__ import annotations

from blake3 import blake3

from coral_git.errors import FormatVersionError, InvalidManifestError
from coral_git.limits import Limits
from coral_git.manifest.body import KnownLines, body_reader, finish, read_tables
from coral_git.manifest.damage import describe_damage, repair_hint, without_wrapping
from coral_git.manifest.entries import Manifest
from coral_git.manifest.header import HeaderLines, read_gaps, read_rest
from coral_git.manifest.text import (
    CLAIM,
    FIRST_LINE,
    MAX_CHUNKS,
    MAX_TENSORS,
    PREFIX,
    VERSION,
    LineError,
    is_chunked,
    is_format,
    number,
    text_lines,
)
from coral_git.types import FileDigest, ObjectId

__all__ = ["FIRST_LINE", "claims_manifest", "is_manifest_start", "parse"]

_MAX_VERSION_DIGITS = 9
_ROOT_LINE = 4


def is_manifest_start(head: bytes) -> bool:
    """Whether a text begins with the first line of a manifest of this version."""
    return head.startswith(FIRST_LINE)


def claims_manifest(head: bytes) -> bool:
    """Whether a text wants to be a manifest: of any version, damaged in whatever way.

    Such a text goes through ``parse``, which accepts or refuses it; it is never stored as data. The first 256
    bytes of the text are enough.
    """
    head = without_wrapping(head)
    return head.startswith(CLAIM) or _version(head) not in (None, VERSION)


def parse(text: bytes, limits: Limits, known: KnownLines | None = None) -> Manifest:
    """Read a manifest.

    Args:
        text: the manifest.
        limits: the caps.
        known: lines of other manifests that were read with the same caps; what is read is added.

    Raises:
        FormatVersionError: its version is another one.
        InvalidManifestError: it is damaged; the message names the line, the hint the way to repair it.
    """
    version = _version(text)
    if version not in (None, VERSION):
        raise FormatVersionError(
            f"the manifest has version {version}, this coral-git reads version {VERSION}",
            hint="update it: pip install --upgrade coral-git",
        )
    if len(text) > limits.manifest_bytes:
        raise InvalidManifestError(
            f"the manifest has {len(text)} bytes, at most {limits.manifest_bytes} are read"
        )
    try:
        return _parse(text, limits, known)
    except LineError as error:
        raise InvalidManifestError(
            f"the manifest is not valid: {describe_damage(text)} ({error})", hint=repair_hint(text)
        ) from None


def _version(text: bytes) -> int | None:
    """The version that a first line names; None when it is no first line of any version."""
    if not text.startswith(PREFIX):
        return None
    digits, colon, _ = text[len(PREFIX) : len(PREFIX) + _MAX_VERSION_DIGITS + 2].partition(b": ")
    return number(digits.decode("latin-1")) if colon else None


def _parse(text: bytes, limits: Limits, known: KnownLines | None) -> Manifest:
    lines = text_lines(text)
    if not is_manifest_start(text):
        raise LineError(1, "not the first line of a manifest")
    header = HeaderLines(lines)
    format_name = header.take("format")
    if not is_format(format_name):
        raise LineError(header.taken, "a format is a reader's name, a slash and its version")
    size = header.take_number("size")
    sha256 = FileDigest(header.take_digest("sha256"))
    root = header.take_digest("root")
    manifest = Manifest(format_name, size, sha256)
    if not is_chunked(format_name):
        manifest = _with_rest(manifest, header, limits)
    manifest = _with_body(manifest, header, limits, known)
    if _root(text, lines) != root:
        raise LineError(_ROOT_LINE + 1, "the root is not the one of this text")
    return manifest


def _with_rest(manifest: Manifest, header: HeaderLines, limits: Limits) -> Manifest:
    length = 0
    rest: tuple[ObjectId, ...] = ()
    gaps: tuple[int, ...] = ()
    if header.has("rest"):
        length, rest = read_rest(header, manifest.size, limits)
        gaps = read_gaps(header, length)
    count = header.take_number("tensors")
    if count > MAX_TENSORS or (gaps and len(gaps) != count + 1):
        raise LineError(header.taken, "the number of tensors does not agree with the gaps, or is too large")
    return manifest._replace(rest_length=length, rest=rest, gaps=gaps, tensor_count=count)


def _with_body(manifest: Manifest, header: HeaderLines, limits: Limits, known: KnownLines | None) -> Manifest:
    lines, first = header.lines[header.taken :], header.taken + 1
    count = manifest.tensor_count
    if lines and lines[0].startswith("table "):
        tables = read_tables(lines, first, MAX_CHUNKS if count is None else count, limits)
        if count not in (None, sum(table.lines for table in tables)):
            raise LineError(len(header.lines), f"the tables do not hold {count} tensors")
        return manifest._replace(tables=tables)
    body = body_reader(count, limits, known)
    body.read(lines, first)
    return finish(manifest, body)


def _root(text: bytes, lines: list[str]) -> bytes:
    """BLAKE3-256 of the text without its root line."""
    start = sum(map(len, lines[:_ROOT_LINE])) + _ROOT_LINE
    end = start + len(lines[_ROOT_LINE]) + 1
    return blake3(text[:start]).update(memoryview(text)[end:]).digest()
