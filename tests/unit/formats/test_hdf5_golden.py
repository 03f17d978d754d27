"""How a file is cut never changes for a version of a reader; no library is needed to see that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coral_git.formats.registry import read_layout
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import BytesSource

CORPUS = Path(__file__).parents[2] / "fuzz" / "corpus"
GOLDEN = {
    "hdf5/good-big-endian": ("x", "F64_BE", 447),
    "hdf5/good-chunks": ("x", "F32", 485),
    "hdf5/good-circle": ("a/x", "F32", 594),
    "hdf5/good-heap": ("w0", "F32", 447),
    "hdf5/good-new": ("a/x", "F32", 447),
    "hdf5/good-old": ("a/x", "F32", 1072),
    "hdf5/good-user-block": ("x", "F32", 959),
    "keras/good-one": ("layers/dense/vars/0", "F32", 929),
}


@pytest.mark.parametrize("file", GOLDEN)
def test_cuts_are_these_for_ever(file: str) -> None:
    data = (CORPUS / file).read_bytes()
    layout = read_layout(BytesSource(data), DEFAULT_LIMITS)
    assert layout is not None
    assert layout.format == f"{file.partition('/')[0]}/1"
    (tensor,) = layout.tensors
    assert (tensor.name, tensor.dtype.name, tensor.offset) == GOLDEN[file]
    assert tensor.shape == (6, 4)
    code = ">f8" if tensor.dtype.name == "F64_BE" else "<f4"
    assert data[tensor.offset : tensor.offset + tensor.length] == np.arange(24).astype(code).tobytes()
