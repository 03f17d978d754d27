"""Each rule of the verdict, on versions that only it describes."""

from __future__ import annotations

import numpy as np
import pytest

from coral_git.diff.compare import Versions, Wanted, compare
from coral_git.pipeline.parallel import Workers

LAYERS = (
    "embed.weight",
    "h.0.attn.weight",
    "h.0.norm.weight",
    "h.0.norm.bias",
    "h.1.attn.weight",
    "head.weight",
)


class File:
    """A version of a file in memory."""

    def __init__(self, manifest, tensors):
        self.manifest = manifest
        self._tensors = {one.entry.name: one for one in tensors}

    def reader(self, entry, held):
        return self._tensors[entry.name].read


@pytest.fixture
def judge(array, manifest_of):
    """Gives the verdict on two versions: ``{name: values}``, of which the dtype is the one of the values."""
    names = {"<f4": "F32", "<f8": "F64", "<f2": "F16", "<i8": "I64", "|u1": "U8"}

    def run(old, new, **wanted):
        files = []
        for version in (old, new):
            tensors = [
                array(values, names[values.dtype.str], name) for name, values in (version or {}).items()
            ]
            manifest = manifest_of(*(one.entry for one in tensors)) if version else manifest_of(None)
            files.append(None if version is None else File(manifest, tensors))
        with Workers(1) as workers:
            return compare(Versions(b"m", b"m", *files), Wanted(**wanted), workers, None).verdict

    return run


def model(*names):
    random = np.random.default_rng(0)
    shapes = {name: (24,) if name.endswith("bias") else (24, 32) for name in names or LAYERS}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def tuned(tensors, *names, size=0.1):
    random = np.random.default_rng(1)
    return {
        name: values + random.standard_normal(values.shape).astype(values.dtype) * values.dtype.type(size)
        if name in (names or tensors)
        else values
        for name, values in tensors.items()
    }


def zeroed(tensors, share):
    random = np.random.default_rng(2)
    return {
        name: np.where(random.random(one.shape) < share, 0, one).astype(one.dtype)
        for name, one in tensors.items()
    }


def low_rank(tensors, rank, *names):
    random = np.random.default_rng(3)
    result = dict(tensors)
    for name in names:
        rows, columns = tensors[name].shape
        step = random.standard_normal((rows, rank)) @ random.standard_normal((rank, columns)) / 10
        result[name] = (tensors[name] + step).astype(np.float32)
    return result


def without(tensors, *names):
    return {name: one for name, one in tensors.items() if name not in names}


BASE = model()
HEAD = {"head.weight": np.concatenate([BASE["head.weight"]] * 2)}
IDS = {"ids": np.arange(9)}
STATE = {"state.0.exp_avg": BASE["embed.weight"] / 2}

CASES = {
    "identical weights, other metadata": (BASE, BASE),
    "tensors renamed": (BASE, {f"model.{name}": one for name, one in BASE.items()}),
    "1 tensor added": (BASE, {**BASE, "new": BASE["embed.weight"]}),
    "2 tensors added": (BASE, {**BASE, "new": BASE["embed.weight"], "bias": BASE["h.0.norm.bias"]}),
    "1 tensor removed": (BASE, without(BASE, "head.weight")),
    "1 tensor renamed, 1 tensor added, 1 tensor removed": (
        BASE,
        {
            **without(BASE, "head.weight", "h.0.norm.bias"),
            "other": BASE["head.weight"],
            "more": BASE["head.weight"] * 2,
        },
    ),
    "dtype cast F32 → F16": (BASE, {name: one.astype("<f2") for name, one in BASE.items()}),
    "dtype cast F32 → F16, and other values": (
        BASE,
        {name: one.astype("<f2") for name, one in tuned(BASE).items()},
    ),
    "first dimension of 'head.weight' from 24 to 48": (BASE, {**BASE, **HEAD}),
    "first dimension of 'head.weight' from 48 to 24": ({**BASE, **HEAD}, BASE),
    "tensors reshaped": (BASE, {name: one.T.copy() if one.ndim == 2 else one for name, one in BASE.items()}),
    "pruned 50 %": (
        BASE,
        {name: np.where(np.arange(one.size).reshape(one.shape) % 2, one, 0) for name, one in BASE.items()},
    ),
    "low-rank update, LoRA-like (rank ≤ 3)": (BASE, low_rank(BASE, 3, "h.0.attn.weight", "h.1.attn.weight")),
    "head only": (BASE, tuned(BASE, "head.weight")),
    "norms and biases only": (BASE, tuned(BASE, "h.0.norm.weight", "h.0.norm.bias")),
    "integers only": ({**BASE, **IDS}, {**BASE, "ids": IDS["ids"] + 1}),
    "optimizer step": ({**BASE, **STATE}, tuned({**BASE, **STATE}, "embed.weight", "state.0.exp_avg")),
    "full fine-tune": (BASE, tuned(BASE)),
    "partial fine-tune, 2 of 6 tensors": (BASE, tuned(BASE, "embed.weight", "h.0.norm.bias")),
    "new file": (None, BASE),
    "removed": (BASE, None),
    "no tensors known, 0 % of the bytes are new": ({}, {}),
}


@pytest.mark.parametrize("verdict", CASES)
def test_each_rule(judge, verdict):
    assert judge(*CASES[verdict]) == verdict


def test_a_small_step_of_all_weights_is_one_of_an_optimizer(judge):
    assert judge(BASE, tuned(BASE, size=1e-4)) == "optimizer step"
    assert judge(BASE, tuned(BASE, "embed.weight", size=1e-4)) == "partial fine-tune, 1 of 6 tensors"


def test_zeros_that_were_there_before_are_not_pruned(judge):
    sparse = zeroed(BASE, 0.9)
    trained = {name: np.where(one == 0, one, one * np.float32(1.5)) for name, one in sparse.items()}
    assert judge(sparse, trained) == "full fine-tune"
    assert judge(zeroed(BASE, 0.5), zeroed(zeroed(BASE, 0.5), 0.9)).startswith("pruned 9")


def test_one_matrix_of_full_rank_is_no_lora(judge):
    new = tuned(low_rank(BASE, 2, "h.0.attn.weight"), "embed.weight")
    assert judge(BASE, new) == "partial fine-tune, 2 of 6 tensors"
    assert judge(BASE, {**low_rank(BASE, 2, "h.0.attn.weight"), "more": BASE["embed.weight"] * 2}).startswith(
        "low-rank"
    )


def test_a_cast_beside_another_change_is_no_cast(judge):
    new = {**BASE, "embed.weight": BASE["embed.weight"].astype("<f2"), "head.weight": BASE["head.weight"] * 2}
    assert judge(BASE, new) == "partial fine-tune, 2 of 6 tensors"


def test_without_figures_only_what_manifests_say(judge):
    assert judge(BASE, tuned(BASE), figures=False) == "all weights changed"
    assert judge(BASE, tuned(BASE, "head.weight"), figures=False) == "head only"
    assert (
        judge(BASE, {name: one.astype("<f2") for name, one in BASE.items()}, figures=False)
        == "dtype cast F32 → F16"
    )


def test_a_file_without_values(judge):
    empty = {"a": np.zeros((0, 3), np.float32)}
    assert judge(empty, {**empty, "b": np.zeros(0, np.float32)}) == "1 tensor added"
    assert judge(empty, {"a": np.zeros((0, 4), np.float32)}) == "tensors reshaped"
    assert judge(empty, {"a": np.ones((2, 3), np.float32)}) == "first dimension of 'a' from 0 to 2"


def test_names_of_tensors_cannot_control_a_terminal(judge):
    name = "a\x1b[31m\n'\u202e"
    verdict = judge({name: BASE["embed.weight"]}, {name: HEAD["head.weight"]})
    assert verdict.isprintable()
    assert verdict.startswith(r"first dimension of 'a\x1b[31m\x0a'")


@pytest.mark.parametrize(
    ("name", "is_head"),
    [
        ("lm_head.weight", True),
        ("model/head/kernel", True),
        ("classifier.0.weight", True),
        ("fc.weight", True),
        ("score.weight", True),
        ("attn.multihead.weight", False),
        ("heading.weight", False),
        ("fc1.weight", True),
    ],
)
def test_names_of_heads(judge, name, is_head):
    old = {name: BASE["embed.weight"], "z": BASE["head.weight"]}
    expected = "head only" if is_head else "partial fine-tune, 1 of 2 tensors"
    assert judge(old, tuned(old, name)) == expected
