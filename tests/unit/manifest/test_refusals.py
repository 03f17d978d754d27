"""Damaged and hostile manifests are refused, with the line and the way to repair them."""

from __future__ import annotations

import time

import pytest
from blake3 import blake3

from coral_git.errors import CoralError, FormatVersionError, InvalidManifestError
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.manifest.damage import describe_damage
from coral_git.manifest.model import expand
from coral_git.manifest.parse import FIRST_LINE, claims_manifest, is_manifest_start, parse
from coral_git.manifest.render import render, tabulate

from .strategies import SMALL
from .test_golden import chunks, many, tensors

HEX = "0" * 64


def text_of(*lines: str) -> bytes:
    """A manifest of the lines with the right root."""
    head = FIRST_LINE + "".join(f"{line}\n" for line in lines[:3]).encode()
    body = "".join(f"{line}\n" for line in lines[3:]).encode()
    return head + b"root " + blake3(head + body).hexdigest().encode() + b"\n" + body


def tensor_text(*lines: str, size: int = 4, count: int | None = None, rest: tuple[str, ...] = ()) -> bytes:
    wanted = len(lines) if count is None else count
    return text_of("format x/1", f"size {size}", f"sha256 {HEX}", *rest, f"tensors {wanted}", *lines)


GOOD = f"tensor a I8 4 {HEX}"


def refused(text: bytes, match: str, limits: Limits = SMALL) -> InvalidManifestError:
    with pytest.raises(InvalidManifestError, match=match) as caught:
        parse(text, limits)
    return caught.value


def test_the_helpers_make_valid_manifests() -> None:
    assert parse(tensor_text(GOOD), SMALL).tensors[0].name == "a"
    assert parse(tensor_text(GOOD, size=6, rest=(f"rest 2 {HEX}", "gaps 2*1")), SMALL).gaps == (1, 1)


@pytest.mark.parametrize(
    ("line", "match"),
    [
        (f"tensor a I8 04 {HEX}", "canonical"),
        (f"tensor a I8 +4 {HEX}", "canonical"),
        (f"tensor a I8 4_0 {HEX}", "canonical"),
        (f"tensor a I8 -4 {HEX}", "canonical"),
        (f"tensor a I8 4x {HEX}", "canonical"),
        (f"tensor a I8 x4 {HEX}", "canonical"),
        (f"tensor a I8 {'9' * 5000} {HEX}", "canonical"),
        (f"tensor a I8 {1 << 63} {HEX}", "canonical"),
        (f"tensor a I8 1x1x1x1x4 {HEX}", "more than 4 dimensions"),
        (f"tensor a i8 4 {HEX}", "unknown dtype"),
        (f"tensor a F4 1 {HEX}", "whole bytes"),
        (f"tensor a I8 4 {HEX} ", "1 ids, not 2"),
        (f"tensor a I8 4  {HEX}", "1 ids, not 2"),
        (f"tensor  a I8 4 {HEX}", "name"),
        (f"tensor a  I8 4 {HEX}", "unknown dtype"),
        ("tensor a I8 4", "1 ids, not 0"),
        (f"tensor a I8 0 {HEX}", "0 ids, not 1"),
        (f"tensor a I8 {1 << 62}x{1 << 62} {HEX}", "ids, not 1"),
        (f"tensor a I8 4 {'A' * 64}", "lower-case"),
        (f"tensor a I8 4 {'0' * 63}", "lower-case"),
        (f"tensor a I8 4 {'0' * 66}", "lower-case"),
        (f"tensor \\x61 I8 4 {HEX}", "escaped"),
        (f"tensor \\xC3\\xA4 I8 4 {HEX}", "escaped"),
        (f"tensor \\xff I8 4 {HEX}", "escaped"),
        (f"tensor \\xed\\xa0\\x80 I8 4 {HEX}", "escaped"),
        (f"tensor a\\ I8 4 {HEX}", "escaped"),
        (f"tensor a\\n I8 4 {HEX}", "escaped"),
        (f"tensor {'n' * 65} I8 4 {HEX}", "longer than 64"),
        ("tensor " + "\\x0a" * 65 + f" I8 4 {HEX}", "longer than 64"),
        (f"tensors a I8 4 {HEX}", "no 'tensor' line"),
        (f" tensor a I8 4 {HEX}", "no 'tensor' line"),
        (f"chunk 4 {HEX}", "no 'tensor' line"),
        ("tensor a", "no 'tensor' line"),
        ("", "no 'tensor' line"),
        (f"table 1 {HEX} ", "no 'table' line"),
        (f"table 0 {HEX}", "above zero"),
        (f"table 3 {HEX}", "too many lines"),
    ],
)
def test_a_bad_line_is_named(line: str, match: str) -> None:
    assert "line 7:" in refused(tensor_text(line), match).message


def test_sums_and_counts_must_agree() -> None:
    refused(tensor_text(GOOD, size=5), "add up to 4 bytes, the size is 5")
    refused(tensor_text(GOOD, size=3), "add up to 4 bytes, the size is 3")
    refused(tensor_text(GOOD, count=2), "1 tensors, not 2")
    refused(tensor_text(GOOD, GOOD, size=8), "a second tensor of this name")
    refused(tensor_text(count=1 << 40), "too large")
    refused(tensor_text(f"table 2 {HEX}", f"table 1 {HEX}", count=2), "too many lines")
    refused(tensor_text(f"table 2 {HEX}", count=3), "do not hold 3")


@pytest.mark.parametrize(
    ("gaps", "match"),
    [
        ("1 1", "k\\*n"),
        ("1*2 0", "k\\*n"),
        ("02*1", "k\\*n"),
        ("2*01", "k\\*n"),
        ("*1 1", "k\\*n"),
        ("2*1*0", "k\\*n"),
        ("2 0 ", "k\\*n"),
        ("+2 0", "k\\*n"),
        ("0*1 2 0", "k\\*n"),
        ("2", "does not agree"),
        ("2 2*0", "does not agree"),
        ("1 0", "add up to 1 bytes"),
        (f"2 {10**18}*0", "too many gaps"),
        (f"{10**18}*{10**18}", "too many gaps"),
    ],
)
def test_gaps_have_one_spelling(gaps: str, match: str) -> None:
    refused(tensor_text(GOOD, size=6, rest=(f"rest 2 {HEX}", f"gaps {gaps}")), match)


@pytest.mark.parametrize(
    "rest",
    [
        (f"rest 0 {HEX}", "gaps 2*0"),
        ("rest 2", "gaps 2 0"),
        (f"rest 2 {HEX} {HEX}", "gaps 2 0"),
        (f"rest 2 {HEX}",),
        ("gaps 2 0",),
        ("gaps 2 0", f"rest 2 {HEX}"),
        (f"rest 99 {HEX}", "gaps 99 0"),
        (f"rest 2 {HEX}", "gaps 2 0", "gaps 2 0"),
    ],
)
def test_the_rest_has_one_spelling(rest: tuple[str, ...]) -> None:
    refused(tensor_text(GOOD, size=6, rest=rest), "not valid")


@pytest.mark.parametrize(
    "lines",
    [
        ("format X/1", "size 4", f"sha256 {HEX}"),
        ("format x", "size 4", f"sha256 {HEX}"),
        ("format x/0", "size 4", f"sha256 {HEX}"),
        ("format x/01", "size 4", f"sha256 {HEX}"),
        ("format /1", "size 4", f"sha256 {HEX}"),
        ("format 1x/1", "size 4", f"sha256 {HEX}"),
        (f"format {'x' * 33}/1", "size 4", f"sha256 {HEX}"),
        ("format x/1", "size 04", f"sha256 {HEX}"),
        ("format x/1", "size -4", f"sha256 {HEX}"),
        ("format x/1", f"size {1 << 63}", f"sha256 {HEX}"),
        ("format x/1", "size 4", f"sha256 {'F' * 64}"),
        ("size 4", "format x/1", f"sha256 {HEX}"),
        ("format x/1", "size 4", f"sha512 {HEX}"),
        ("format  x/1", "size 4", f"sha256 {HEX}"),
        ("format x/1 ", "size 4", f"sha256 {HEX}"),
    ],
)
def test_the_header_has_one_spelling(lines: tuple[str, ...]) -> None:
    refused(text_of(*lines, "tensors 1", GOOD), "not valid")


def test_chunks_are_strict_too() -> None:
    def chunked(*lines: str) -> bytes:
        return text_of("format chunks/1", "size 4", f"sha256 {HEX}", *lines)

    assert len(parse(chunked(f"chunk 4 {HEX}"), SMALL).chunks) == 1
    refused(chunked(f"chunk 04 {HEX}"), "above zero")
    refused(chunked(f"chunk 0 {HEX}", f"chunk 4 {HEX}"), "above zero")
    refused(chunked(f"chunk 4 {HEX} "), "no 'chunk' line")
    refused(chunked(f"chunk 65 {HEX}"), "more than 64 bytes")
    refused(chunked("tensors 1", GOOD), "no 'chunk' line")
    refused(chunked(f"rest 4 {HEX}", "gaps 4"), "no 'chunk' line")
    refused(chunked(), "add up to 0 bytes")


def test_unknown_versions_are_refused_by_name() -> None:
    text = b"# coral 2: whatever it says\n"
    assert claims_manifest(text)
    assert not is_manifest_start(text)
    with pytest.raises(FormatVersionError, match="version 2"):
        parse(text, SMALL)


def test_what_claims_to_be_a_manifest() -> None:
    text = render(tensors())
    assert claims_manifest(text[:256])
    for damaged in (
        text.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + text,
        b"<<<<<<< ours\n" + text,
        text[:90],
    ):
        assert claims_manifest(damaged[:256])
        with pytest.raises(CoralError):
            parse(damaged, SMALL)
    for data in (
        b"",
        b"#",
        b"# coral",
        b"# coral 1: my notes\n",
        b"# coral 02: x",
        b"# coral x: y",
        b"\x80" * 300,
    ):
        assert not claims_manifest(data)
        with pytest.raises(InvalidManifestError):
            parse(data, SMALL)


def test_hints_for_the_owner(sample: bytes) -> None:
    lines = sample.decode().splitlines(keepends=True)
    conflict = "".join(
        [*lines[:2], "<<<<<<< ours\n", lines[2], "=======\n", lines[2], ">>>>>>> theirs\n", *lines[3:]]
    )
    error = refused(conflict.encode(), "conflict markers")
    assert "git checkout --ours -- PATH" in error.hint
    assert "git checkout --theirs -- PATH" in error.hint
    assert "--merge" in error.hint
    assert "git coral resolve PATH" in error.hint
    error = refused(sample.replace(b"\n", b"\r\n"), "CRLF")
    assert "-text" in error.hint
    assert "git coral resolve" not in error.hint
    error = refused(b"\xef\xbb\xbf" + sample, "byte order mark")
    assert "-text" in error.hint
    refused(sample[:-1], "its end is missing")
    error = refused(
        sample.replace(b"sha256 5", b"sha256 6"), "lines of two versions are mixed.*line 5: the root"
    )
    assert "git checkout HEAD -- PATH" in error.hint
    assert describe_damage(conflict.encode()) == "it holds conflict markers"
    for text in (b"", b"\n", sample, b"\xff" * 99):
        assert "\n" not in describe_damage(text)


def test_a_damaged_table_is_refused() -> None:
    for manifest in (chunks(5), many()):
        stored, contents = tabulate(manifest, SMALL)
        store = {blake3(content).digest(): content for content in contents}
        first = contents[0]
        for bad in (
            b"",
            first[:-1],
            first + first,
            first.split(b"\n")[0] + b"\n",
            b"\n\n",
            first.replace(b"\n", b"\r\n"),
            contents[1],
            first.replace(b" ", b"  "),
        ):
            store[stored.tables[0].object_id] = bad
            with pytest.raises(InvalidManifestError, match="of the manifest"):
                expand(stored, store.__getitem__, SMALL)


def test_a_table_that_says_too_much_is_refused() -> None:
    lines = f"tensor a I8 2 {HEX}\n".encode(), f"tensor a I8 2 {HEX}\n".encode()
    manifest = parse(tensor_text(f"table 1 {'1' * 64}", f"table 1 {'2' * 64}", count=2), SMALL)
    store = {bytes([0x11]) * 32: lines[0], bytes([0x22]) * 32: lines[1]}
    with pytest.raises(InvalidManifestError, match=r"table 2.*second tensor"):
        expand(manifest, store.__getitem__, SMALL)
    store[bytes([0x22]) * 32] = lines[1].replace(b"a I8 2", b"b I8 3")
    with pytest.raises(InvalidManifestError, match="add up to 5 bytes"):
        expand(manifest, store.__getitem__, SMALL)


def test_long_texts_are_refused_before_they_are_looked_at() -> None:
    limits = Limits(manifest_bytes=1000)
    refused(FIRST_LINE + b"x" * 1000, "at most 1000", limits)


def test_a_manifest_of_20_000_tensors_parses_fast() -> None:
    lines = [f"tensor model.layers.{n}.mlp.weight BF16 8x16 {n:064x}" for n in range(20_000)]
    text = tensor_text(*lines, size=20_000 * 256)
    start = time.process_time()
    assert len(parse(text, DEFAULT_LIMITS).tensors) == 20_000
    assert time.process_time() - start < 1
