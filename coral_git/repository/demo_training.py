"""A small network that really learns, trained with numpy alone: the checkpoints of ``git coral demo``.

It reads digits that are drawn somewhere on a noisy picture: a fixed random projection, a hidden layer and a
head, trained by Adam (Kingma and Ba, 2015). The stages are those of a model's life: training, fine-tuning,
a new head under new names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]
Tensors: TypeAlias = dict[str, Array]

_FONT = (
    "0e11131519110e", "040c040404040e", "0e11010204081f", "1f02040201110e", "02060a121f0202",
    "1f101e0101110e", "0608101e11110e", "1f010204080808", "0e11110e11110e", "0e11110f01020c",
)  # fmt: skip
"""The digits 0 to 9, a byte per row, its low five bits are the dots."""

_SIDE, _FEATURES, _HIDDEN, _DIGITS = 9, 768, 384, 10
_BATCH, _TESTS, _NOISE = 64, 1000, 0.25
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8


class Checkpoint(NamedTuple):
    """The state of the network after a stage.

    Attributes:
        message: what happened, fit for a commit message.
        accuracy: share of unseen pictures that are read right.
        data: a safetensors file.
    """

    message: str
    accuracy: float
    data: bytes


class _Stage(NamedTuple):
    message: str
    steps: int
    rate: float
    layers: tuple[str, ...]


_STAGES = (
    _Stage("train from scratch", 120, 2e-3, ("hidden", "head")),
    _Stage("train on, slowly", 30, 5e-5, ("hidden", "head")),
    _Stage("tune the head", 30, 1e-3, ("head",)),
    _Stage("add a second head", 30, 1e-3, ("parity",)),
    _Stage("tune everything", 15, 1e-5, ("hidden", "digit", "parity")),
)


def train(seed: int = 1) -> Iterator[Checkpoint]:
    """Train the network stage by stage; the same machine gives the same bytes for the same seed."""
    random = np.random.default_rng(seed)
    test = _pictures(random, _TESTS)
    tensors = _layer(random, "features", _FEATURES, _SIDE * _SIDE)
    tensors |= _layer(random, "hidden", _HIDDEN, _FEATURES) | _layer(random, "head", _DIGITS, _HIDDEN)
    steps = 0
    for stage in _STAGES:
        if "parity" in stage.layers and "head.weight" in tensors:
            tensors = {name.replace("head.", "digit."): tensor for name, tensor in tensors.items()}
            tensors |= _layer(random, "parity", 2, _HIDDEN)
        _run_stage(stage, tensors, random)
        steps += stage.steps
        yield Checkpoint(stage.message, _accuracy(tensors, *test), safetensors(tensors, {"step": str(steps)}))


def safetensors(tensors: Tensors, metadata: dict[str, str]) -> bytes:
    """The bytes of a safetensors file of float32 tensors, in their order."""
    header: dict[str, object] = {"__metadata__": metadata}
    offset = 0
    for name, tensor in tensors.items():
        end = offset + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = (np.ascontiguousarray(tensor, "<f4").tobytes() for tensor in tensors.values())
    return b"".join((len(text).to_bytes(8, "little"), text, *data))


def _pictures(random: np.random.Generator, count: int) -> tuple[Array, NDArray[np.int64]]:
    """Noisy pictures with a digit somewhere, and which digit it is."""
    rows = np.frombuffer(bytes.fromhex("".join(_FONT)), np.uint8).reshape(_DIGITS, 7, 1)
    glyphs = np.unpackbits(rows, axis=2)[:, :, 3:].astype(np.float32)
    labels = random.integers(0, _DIGITS, count)
    pictures = random.standard_normal((count, _SIDE, _SIDE), np.float32) * np.float32(_NOISE)
    tops, lefts = random.integers(0, _SIDE - 6, count), random.integers(0, _SIDE - 4, count)
    for picture, label, top, left in zip(pictures, labels, tops, lefts, strict=True):
        picture[top : top + 7, left : left + 5] += glyphs[label]
    return pictures.reshape(count, -1), labels


def _layer(random: np.random.Generator, name: str, outputs: int, inputs: int) -> Tensors:
    """A dense layer with random weights (He et al., 2015) and no bias yet."""
    weight = random.standard_normal((outputs, inputs), np.float32) * np.float32((2 / inputs) ** 0.5)
    return {f"{name}.weight": weight, f"{name}.bias": np.zeros(outputs, np.float32)}


def _heads(tensors: Tensors) -> list[str]:
    return [name for name in ("head", "digit", "parity") if f"{name}.weight" in tensors]


def _dense(tensors: Tensors, name: str, inputs: Array) -> Array:
    result: Array = inputs @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]
    return result


def _forward(tensors: Tensors, pictures: Array) -> tuple[Array, Array]:
    """What the frozen layer and the hidden layer make of pictures."""
    features = np.maximum(_dense(tensors, "features", pictures), 0)
    return features, np.maximum(_dense(tensors, "hidden", features), 0)


def _accuracy(tensors: Tensors, pictures: Array, labels: NDArray[np.int64]) -> float:
    _, hidden = _forward(tensors, pictures)
    answers = _dense(tensors, _heads(tensors)[0], hidden).argmax(axis=1)
    return float((answers == labels).mean())


def _gradients(tensors: Tensors, pictures: Array, labels: NDArray[np.int64]) -> Tensors:
    """The gradients of the cross entropy of all heads, by backpropagation."""
    features, hidden = _forward(tensors, pictures)
    found: Tensors = {}
    back = np.zeros_like(hidden)
    for head in _heads(tensors):
        logits = _dense(tensors, head, hidden)
        error = np.exp(logits - logits.max(axis=1, keepdims=True))
        error /= error.sum(axis=1, keepdims=True)
        error[np.arange(len(labels)), labels % 2 if head == "parity" else labels] -= 1
        error /= np.float32(len(labels))
        found |= {f"{head}.weight": error.T @ hidden, f"{head}.bias": error.sum(axis=0)}
        back += error @ tensors[f"{head}.weight"]
    back *= hidden > 0
    return found | {"hidden.weight": back.T @ features, "hidden.bias": back.sum(axis=0)}


def _run_stage(stage: _Stage, tensors: Tensors, random: np.random.Generator) -> None:
    """Train some layers in place by Adam, the rate falling to zero."""
    names = [f"{layer}.{kind}" for layer in stage.layers for kind in ("weight", "bias")]
    first = {name: np.zeros_like(tensors[name]) for name in names}
    second = {name: np.zeros_like(tensors[name]) for name in names}
    for step in range(1, stage.steps + 1):
        gradients = _gradients(tensors, *_pictures(random, _BATCH))
        rate = stage.rate * (1 - (step - 1) / stage.steps)
        _adam(tensors, gradients, first, second, names, rate, step)


def _adam(
    tensors: Tensors,
    gradients: Tensors,
    first: Tensors,
    second: Tensors,
    names: Sequence[str],
    rate: float,
    step: int,
) -> None:
    """One step of Adam on the named tensors, with its running moments."""
    scale = np.float32(rate * (1 - _BETA2**step) ** 0.5 / (1 - _BETA1**step))
    for name in names:
        gradient = gradients[name]
        first[name] += np.float32(1 - _BETA1) * (gradient - first[name])
        second[name] += np.float32(1 - _BETA2) * (gradient * gradient - second[name])
        tensors[name] -= scale * first[name] / (np.sqrt(second[name]) + np.float32(_EPSILON))
