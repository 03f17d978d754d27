"""Keras archives: an HDF5 file in a zip file."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import Layout
from coral_git.formats.keras import WEIGHTS, KerasReader
from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

from .hostile import ask, contents, damaged

h5py = pytest.importorskip("h5py")
READER = KerasReader()
KERNEL = np.arange(12, dtype="f4").reshape(3, 4)


def weights(*, userblock_size: int = 0) -> bytes:
    """A file as Keras writes it."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w", userblock_size=userblock_size) as file:
        for layer, values in (("dense", KERNEL), ("dense_1", KERNEL[:1])):
            file[f"layers/{layer}/vars/0"] = values
            file[f"layers/{layer}"].attrs["name"] = layer
    return buffer.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


MEMBERS = {"metadata.json": b"{}", "config.json": b'{"module":"keras"}', WEIGHTS: weights()}
FILE = archive(MEMBERS)


def layout_of(data: bytes) -> Layout | None:
    return read_layout(BytesSource(data), DEFAULT_LIMITS)


def test_the_weights_are_tensors() -> None:
    layout = layout_of(FILE)
    assert layout is not None
    assert layout.format == "keras/1"
    assert contents(FILE, layout) == {
        "layers/dense/vars/0": KERNEL.tobytes(),
        "layers/dense_1/vars/0": KERNEL[:1].tobytes(),
    }
    assert {tensor.shape for tensor in layout.tensors} == {(3, 4), (1, 4)}


@pytest.mark.parametrize(
    "file",
    [
        archive(MEMBERS, zipfile.ZIP_DEFLATED),
        archive(MEMBERS | {WEIGHTS: b""}),
        archive(MEMBERS | {WEIGHTS: b"weights"}),
        archive(MEMBERS | {WEIGHTS: weights(userblock_size=512)}),
        archive(MEMBERS | {WEIGHTS: weights()[:-50]}),
        archive({"config.json": b"{}", "weights.h5": weights()}),
        archive({}),
    ],
)
def test_other_archives_are_refused(file: bytes) -> None:
    assert ask(READER, file) is None


def test_an_address_never_leaves_the_member() -> None:
    """A dataset that claims to lie behind the weights, where another member is."""
    bad = weights()
    start = bad.index(KERNEL.tobytes())
    bad = bad.replace(start.to_bytes(8, "little"), len(bad).to_bytes(8, "little"))
    assert ask(READER, archive({WEIGHTS: bad, "other": bytes(1000)})) is None
    assert ask(READER, archive({WEIGHTS: weights(), "other": bytes(1000)})) is not None


def test_truncation() -> None:
    for length in range(0, len(FILE), 7):
        assert ask(READER, FILE[:length]) is None


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_damage_anywhere(data: st.DataObject) -> None:
    ask(READER, damaged(data, FILE))


def test_what_keras_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(5), keras.layers.Dense(2)])
    path = tmp_path / "m.keras"
    model.save(path)
    data = path.read_bytes()
    layout = layout_of(data)
    assert layout is not None
    assert sorted(tensor.shape for tensor in layout.tensors) == [(2,), (5,), (5, 2), (8, 5)]
    kernel = keras.ops.convert_to_numpy(model.layers[0].kernel)
    assert contents(data, layout)["layers/dense/vars/0"] == kernel.tobytes()
