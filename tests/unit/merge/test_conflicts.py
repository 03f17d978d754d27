"""Conflict markers around manifests come apart again, and what is no version is not taken for one."""

from __future__ import annotations

import difflib
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.manifest.build import build_chunked
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.manifest.parse import parse
from coral_git.manifest.render import render
from coral_git.merge.conflicts import Conflict, Version, split_markers
from coral_git.types import DTYPES, FileDigest, ObjectId

SAMPLE = Path(__file__).parents[2] / "golden" / "manifest" / "tensors.txt"
F32 = DTYPES["F32"]
DIGESTS = st.binary(min_size=32, max_size=32)


@st.composite
def texts(draw):
    """Manifests, of tensors or of chunks."""
    sha256 = FileDigest(draw(DIGESTS))
    if draw(st.booleans()):
        chunks = draw(st.lists(st.tuples(st.integers(1, 9), DIGESTS.map(ObjectId)), max_size=5))
        return render(build_chunked(chunks, sum(length for length, _ in chunks), sha256))
    names = draw(st.lists(st.text("ab<=>| ", max_size=9), unique=True, max_size=6))
    tensors = tuple(TensorEntry(name, F32, (1,), (ObjectId(draw(DIGESTS)),)) for name in names)
    size = 4 * len(tensors)
    return render(Manifest("safetensors/1", size, sha256, tensor_count=len(tensors), tensors=tensors))


def with_markers(ours, theirs, label):
    """Markers around the lines in which two texts differ."""
    first, second = (text.splitlines(keepends=True) for text in (ours, theirs))
    pieces = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces += first[a:b]
        else:
            pieces += [b"<<<<<<< a\n", *first[a:b], b"=======\n", *second[c:d], b">>>>>>> " + label + b"\n"]
    return b"".join(pieces)


@given(texts(), texts(), st.sampled_from([b"b", b"feature/x y", b"<<<<<<< "]))
def test_markers_around_manifests_come_apart(ours, theirs, label):
    assert split_markers(with_markers(ours, theirs, label)) == (b"", ours, theirs)
    parse(ours, DEFAULT_LIMITS)


@given(texts(), texts(), texts())
def test_markers_with_a_base_come_apart(base, ours, theirs):
    text = b"<<<<<<< a\n%b||||||| b\n%b=======\n%b>>>>>>> c\n" % (ours, base, theirs)
    assert split_markers(text) == (base, ours, theirs)


@given(st.binary(max_size=200) | st.text("<>=|\n a", max_size=60).map(str.encode))
def test_any_text_comes_apart(text):
    for piece in split_markers(text):
        assert len(piece) <= len(text)


def test_markers_within_the_base_are_its_lines():
    inner = b"<<<<<<<<< x\n1\n=========\n2\n>>>>>>>>> y\n"
    text = b"0\n<<<<<<< a\nA\n||||||| b\n" + inner + b"=======\nB\n>>>>>>> c\n9\n"
    assert split_markers(text) == (b"0\n" + inner + b"9\n", b"0\nA\n9\n", b"0\nB\n9\n")


@pytest.mark.parametrize("style", [[], ["--diff3"], ["--zdiff3"]])
def test_markers_of_git(tmp_path, style):
    sample = SAMPLE.read_bytes()
    manifest = parse(sample, Limits(part_elements=24, part_bytes=64))
    changed = [
        render(manifest._replace(sha256=bytes([number]) * 32, size=manifest.size)) for number in (1, 2)
    ]
    for name, text in zip(("ours", "base", "theirs"), (changed[0], sample, changed[1]), strict=True):
        (tmp_path / name).write_bytes(text)
    command = ["git", "merge-file", "-p", *style, "ours", "base", "theirs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    assert 0 < done.returncode <= 127, done.stderr  # so many conflicts
    base, ours, theirs = split_markers(done.stdout)
    assert (ours, theirs) == tuple(changed)
    assert base == (sample if style else b"")


def test_what_a_conflict_is():
    version = Version("1", "100755", b"x", None)
    manifest = build_chunked([], 0, FileDigest(bytes(32)))
    valid = Version("2", "100644", render(manifest), manifest)
    both = Conflict(b"p", None, valid, valid, is_unmerged=True)
    assert (both.obstacle, both.mode, both.stages) == ("", "100644", ("", "2", "2"))
    assert both.sides == [manifest] * 2
    assert both._replace(ours=None).obstacle == "we deleted it"
    assert both._replace(theirs=None).obstacle == "they deleted it"
    assert both._replace(theirs=version).obstacle == "their version is no valid manifest"
    assert both._replace(ours=None, theirs=version).mode == "100755"
    assert both.taken("base") is None
    assert both._replace(base=version).taken("base") == version
