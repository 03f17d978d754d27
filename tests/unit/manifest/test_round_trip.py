"""What is written is read again, and nothing else is read."""

from __future__ import annotations

import string

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import InvalidManifestError
from coral_git.manifest.model import Manifest, expand
from coral_git.manifest.parse import claims_manifest, is_manifest_start, parse
from coral_git.manifest.render import render, tabulate

from .strategies import SMALL, manifests

ASCII = [bytes([code]) for code in range(128)]
LIKELY = [char.encode() for char in string.hexdigits + string.punctuation + " \n\r\t\0gtx"]


@given(manifests())
def test_every_manifest_comes_back(manifest: Manifest) -> None:
    text = render(manifest)
    assert is_manifest_start(text)
    assert claims_manifest(text[:256])
    assert parse(text, SMALL) == manifest
    assert render(parse(text, SMALL)) == text


@given(manifests())
def test_every_manifest_comes_back_from_its_tables(manifest: Manifest) -> None:
    tabulated, contents = tabulate(manifest, SMALL)
    store = {blake3(content).digest(): content for content in contents}
    assert bool(contents) == (len(manifest.tensors) > 3 or len(manifest.chunks) > 3)
    text = render(tabulated)
    read = parse(text, SMALL)
    assert read == tabulated
    assert render(read) == text
    assert expand(read, store.__getitem__, SMALL) == manifest


def with_right_root(text: bytes) -> bytes:
    """The text with the root that belongs to it, as somebody would write it who wants it to be believed."""
    lines = text.split(b"\n")
    root = blake3(b"\n".join(lines[:4] + lines[5:])).hexdigest().encode()
    return b"\n".join([*lines[:4], b"root " + root, *lines[5:]])


@given(manifests(), st.data())
@settings(max_examples=100)
def test_no_changed_character_is_accepted(manifest: Manifest, data: st.DataObject) -> None:
    text = render(manifest)
    position = data.draw(st.integers(0, len(text) - 1))
    new = data.draw(st.sampled_from(LIKELY) | st.binary(min_size=0, max_size=2))
    changed = text[:position] + new + text[position + 1 :]
    if changed != text and is_manifest_start(changed):
        with pytest.raises(InvalidManifestError):
            parse(changed, SMALL)


@given(manifests(), st.data())
@settings(max_examples=150)
def test_what_is_accepted_with_a_right_root_is_canonical(manifest: Manifest, data: st.DataObject) -> None:
    text = render(tabulate(manifest, SMALL)[0])
    start = text.index(b"\n") + 1
    for _ in range(data.draw(st.integers(1, 2))):
        position = data.draw(st.integers(start, len(text)))
        new = data.draw(
            st.sampled_from([b"", b" ", b"0", b"1*0", b"2*0", b"\n", b"x", b"+", b"_"])
            | st.binary(max_size=2)
        )
        text = text[:position] + new + text[position + data.draw(st.integers(0, 2)) :]
    if text.count(b"\n") < 6:
        return
    text = with_right_root(text)
    try:
        read = parse(text, SMALL)
    except InvalidManifestError:
        return
    assert render(read) == text


def test_every_single_character_change_of_a_manifest_is_refused(sample: bytes) -> None:
    for position in range(len(sample)):
        for new in (b"", b"\n", b" ", b"0", b"a", b"A", b"\\", b"\xff", sample[position : position + 1] * 2):
            changed = sample[:position] + new + sample[position + 1 :]
            if changed != sample and changed.startswith(b"# coral 1: "):
                with pytest.raises(InvalidManifestError):
                    parse(changed, SMALL)


def test_every_cut_off_manifest_is_refused(sample: bytes) -> None:
    for length in range(len(sample)):
        with pytest.raises(InvalidManifestError):
            parse(sample[:length], SMALL)


def test_mixed_lines_of_two_versions_are_refused(sample: bytes) -> None:
    other = sample.replace(b"a" * 64, b"b" * 64)
    assert other != sample
    lines, others = sample.split(b"\n"), other.split(b"\n")
    for split in range(1, len(lines)):
        mixed = b"\n".join(lines[:split] + others[split:])
        if mixed not in (sample, other):
            with pytest.raises(InvalidManifestError, match="lines of two versions are mixed"):
                parse(mixed, SMALL)
