"""A file on disk as a version: the objects that 'git add' would name, and the bytes that are there."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coral_git.diff.compare import Versions, Wanted, compare
from coral_git.diff.version import StoredVersion, open_file
from coral_git.errors import UsageError
from coral_git.limits import Limits
from coral_git.manifest.parse import parse
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.workspace import Workspace

LIMITS = Limits(part_elements=24, part_bytes=64 << 10, inline_tensors=3, inline_chunks=3, table_lines=2)


def safetensors(tensors, metadata=None):
    header, body = {"__metadata__": metadata} if metadata else {}, b""
    for name, values in tensors.items():
        data = values.tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    path = tmp_path_factory.mktemp("version")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run(["git", "init", "-q"], cwd=path, env=clean, check=True)
    opened = Workspace.open(str(path), LIMITS)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def versions(workspace, tmp_path_factory):
    """Gives the bytes as a version in the store, and as one on disk."""
    path = os.fsencode(tmp_path_factory.mktemp("file") / "m.bin")

    def make(data):
        stored = expanded(parse(clean_content(workspace, b"m.bin", [data]), LIMITS), workspace.store)
        with open(path, "wb") as file:
            file.write(data)
        with Workers(1) as workers:
            return StoredVersion(stored, workspace.store), open_file(path, workers, LIMITS)

    return make


SHAPES = st.lists(st.sampled_from([(), (0, 3), (1,), (5, 7), (100,), (4, 30)]), max_size=6)


@settings(max_examples=25, deadline=None)
@given(
    SHAPES.map(
        lambda shapes: {
            str(n): np.random.default_rng(n).random(shape, np.float32) for n, shape in enumerate(shapes)
        }
    )
)
@example({})
def test_the_same_objects_as_in_the_store(versions, tensors):
    stored, file = versions(safetensors(tensors, {"k": "v"}))
    assert file.manifest._replace(sha256=stored.manifest.sha256) == stored.manifest
    for entry in file.manifest.tensors:
        expected = tensors[entry.name].tobytes()
        for version in (stored, file):
            read = version.reader(entry, {})
            assert bytes(read(0, entry.nbytes + 10)) == expected
            first = min(4, entry.nbytes)
            assert bytes(read(first, 9)) == expected[first : first + 9]
        lengths = entry.part_lengths(LIMITS)
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        parts = [expected[start : start + length] for start, length in zip(starts, lengths, strict=True)]
        assert [blake3(part).digest() for part in parts] == list(entry.objects)
    file.close()


@pytest.mark.parametrize("data", [b"x", b"no format " * 100, bytes(range(256)) * 40])
def test_a_file_of_chunks(versions, data):
    stored, file = versions(data)
    assert file.manifest.tensor_count is None
    assert file.manifest._replace(sha256=stored.manifest.sha256) == stored.manifest
    file.close()


def test_a_file_is_compared_with_a_version_in_the_store(versions, workspace):
    random = np.random.default_rng(0)
    old = {"a": random.standard_normal((9, 5), np.float32), "b": np.ones(3, np.float32)}
    new = {**old, "a": old["a"] * 2}
    stored, file = versions(safetensors(old))
    file.close()
    _, file = versions(safetensors(new))
    with Workers(2) as workers:
        for before, after in ((stored, file), (file, stored)):
            found = compare(Versions(b"m", b"m", before, after), Wanted(), workers, workspace.store)
            (one,) = found.tensors
            assert (one.name, one.figures.changed, found.same) == ("a", 45, 1)
            norm, other = one.figures.norm, one.figures.new_norm
            assert (norm * 2 if before is stored else norm / 2) == pytest.approx(other, rel=1e-12)
    file.close()


def test_what_is_no_regular_file(tmp_path):
    (tmp_path / "link").symlink_to("/dev/zero")
    with Workers(1) as workers:
        for path in (tmp_path / "nothing\x1b", tmp_path, tmp_path / "link"):
            with pytest.raises(UsageError, match="is no file that can be read") as caught:
                open_file(os.fsencode(path), workers, LIMITS)
            assert caught.value.message.isprintable()
