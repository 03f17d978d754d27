"""A base is found wherever it is: in another file, under another name, in another precision or size."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from coral_git.types import ObjectId

RNG = np.random.default_rng(7)
BASE = {
    f"layer.{number}.weight": RNG.standard_normal((160, 128)).astype(np.float32) * np.float32(0.02)
    for number in range(3)
}
TUNED = {
    name: values + RNG.standard_normal(values.shape).astype(np.float32) * np.float32(2e-6)
    for name, values in BASE.items()
}


def renamed(tensors):
    return {f"encoder.{name}.v2": values for name, values in tensors.items()}


def cast(tensors, dtype):
    return {name: values.astype(dtype) for name, values in tensors.items()}


def grown(tensors, rows):
    more = np.zeros((abs(rows), 128), np.float32)
    return {
        name: np.concatenate([values, more]) if rows > 0 else values[:rows]
        for name, values in tensors.items()
    }


def bases_of(repo, revision, path):
    """For each tensor of a file, whether it is stored as a delta."""
    with repo.store() as store:
        return [
            store.locate(ObjectId(tensor.objects[0])).base is not None
            for tensor in repo.manifest(f"{revision}:{path}").tensors
        ]


@pytest.mark.parametrize(
    "other",
    [
        TUNED,
        renamed(TUNED),
        cast(BASE, ml_dtypes.bfloat16),
        renamed(cast(BASE, ml_dtypes.bfloat16)),
        cast(BASE, np.float16),
        grown(TUNED, 9),
        grown(renamed(TUNED), -9),
    ],
    ids=["tuned", "renamed", "bf16", "bf16 renamed", "fp16", "grown", "shrunk renamed"],
)
def test_another_file_finds_its_base(repo, safetensors, assert_healthy, other):
    repo.commit("base", base__safetensors=safetensors(BASE))
    repo.commit("other", other__safetensors=safetensors(other))
    assert bases_of(repo, "HEAD", "other.safetensors") == [True] * 3
    assert_healthy(repo)


def test_precision_goes_up_too(repo, safetensors, assert_healthy):
    repo.commit("half", m__safetensors=safetensors(cast(BASE, ml_dtypes.bfloat16)))
    repo.commit("full", m__safetensors=safetensors(BASE))
    assert bases_of(repo, "HEAD", "m.safetensors") == [True] * 3
    assert_healthy(repo)


def test_two_files_of_one_commit(repo, safetensors, assert_healthy):
    repo.commit("both", a__safetensors=safetensors(BASE), b__safetensors=safetensors(renamed(TUNED)))
    assert sorted(bases_of(repo, "HEAD", "a.safetensors") + bases_of(repo, "HEAD", "b.safetensors")) == [
        *[False] * 3,
        *[True] * 3,
    ]
    assert_healthy(repo)


def test_a_tensor_of_an_earlier_commit(repo, safetensors, assert_healthy):
    """The file is gone from the index, but not from the last commits."""
    repo.commit("base", base__safetensors=safetensors(BASE))
    repo.git("rm", "--quiet", "base.safetensors")
    repo.commit("without")
    with repo.store() as store:
        store.cache.database.transaction(lambda connection: connection.execute("DELETE FROM sketches"))
    repo.commit("again", other__safetensors=safetensors(TUNED))
    assert bases_of(repo, "HEAD", "other.safetensors") == [True] * 3
    assert_healthy(repo)


def test_another_model_stays_alone(repo, safetensors, assert_healthy):
    unlike = {name: RNG.standard_normal(values.shape).astype(np.float32) for name, values in BASE.items()}
    repo.commit("base", base__safetensors=safetensors(BASE))
    repo.commit("other", other__safetensors=safetensors(unlike))
    assert bases_of(repo, "HEAD", "other.safetensors") == [False] * 3
    assert_healthy(repo)


def test_a_bad_threshold_is_said(repo, safetensors):
    repo.git("config", "coral.similarityThreshold", "98%")
    repo.write("m.safetensors", safetensors(BASE))
    done = repo.run("add", "m.safetensors", code=128)
    assert b"bad number '98%' for 'coral.similarityThreshold'" in done.stderr
