"""The index of a distributed checkpoint: what is written is read, and nothing that contradicts itself is."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError, FormatVersionError, IntegrityError, UsageError
from coral_git.integrations.dcp_index import (
    Chunk,
    Index,
    IndexedTensor,
    IndexedValue,
    chunk_name,
    parse,
    rank_file,
    render,
)
from coral_git.integrations.state import put_together
from coral_git.limits import DEFAULT_LIMITS
from coral_git.types import DTYPES

GOLDEN = Path(__file__).parents[2] / "golden" / "distributed" / "index-1.json"
NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


W = {"dtype": "F32", "shape": [4, 2], "requires_grad": False, "chunks": [[0, [0, 0], [4, 2]]]}
INDEX_OF_W = {
    "coral_distributed": 1,
    "tensors": {"w": W},
    "values": {"v": {"rank": 0, "value": ["t", [1, ["x", "1"]]]}},
    "paths": {"w": ["w"], "v": ["v"]},
}


def changed(place: str, value: object) -> bytes:
    """The index with something else at a place."""
    index = json.loads(json.dumps(INDEX_OF_W))
    *path, last = place.split("/")
    inner = index
    for part in path:
        inner = inner[int(part) if part.isdigit() else part]
    if value is None:
        del inner[last]
    else:
        inner[int(last) if last.isdigit() else last] = value
    return json.dumps(index).encode()


HOSTILE: dict[str, Callable[[], bytes]] = {
    "no JSON": lambda: b"\x80\x04N.",
    "deep": lambda: b"[" * 100_000,
    "long": lambda: b"[" + b"[]," * (1 << 22) + b"[]]",
    "twice": lambda: b'{"coral_distributed":1,"coral_distributed":1}',
    "no version": lambda: b"{}",
    "a number": lambda: b"1",
    "an infinite number": lambda: changed("values/v/value", float("inf")),
    "no tensors": lambda: changed("tensors", None),
    "more": lambda: changed("more", 1),
    "odd tensors": lambda: changed("tensors", [1]),
    "odd dtype": lambda: changed("tensors/w/dtype", "F33"),
    "blocks": lambda: changed("tensors/w/dtype", "Q4_0"),
    "negative": lambda: changed("tensors/w/shape", [-4, 2]),
    "a float": lambda: changed("tensors/w/shape", [4.0, 2]),
    "true": lambda: changed("tensors/w/shape", [4, True]),
    "huge": lambda: changed("tensors/w/shape", [1 << 40, 1 << 40]),
    "many dimensions": lambda: changed("tensors/w/shape", [1] * 100),
    "no chunks": lambda: changed("tensors/w/chunks", []),
    "a hole": lambda: changed("tensors/w/chunks", [[0, [0, 0], [3, 2]]]),
    "an overlap": lambda: changed("tensors/w/chunks", [[0, [0, 0], [3, 2]], [1, [1, 0], [1, 2]]]),
    "twice the same": lambda: changed("tensors/w/chunks", [[0, [0, 0], [4, 2]]] * 2),
    "outside": lambda: changed("tensors/w/chunks", [[0, [1, 0], [4, 2]]]),
    "an odd chunk": lambda: changed("tensors/w/chunks", [[0, [0, 0]]]),
    "no process": lambda: changed("tensors/w/chunks", [["../../x", [0, 0], [4, 2]]]),
    "an empty name": lambda: changed("tensors/", W),
    "a long name": lambda: changed("tensors/" + "x" * 2000, W),
    "both": lambda: changed("values/w", {"rank": 0, "value": 1}),
    "a long list": lambda: changed("paths/w", ["w", 1 << 40]),
    "a deep place": lambda: changed("paths/w", ["w"] * 1000),
    "no place": lambda: changed("paths/w", None),
    "a place within": lambda: changed("paths/w", ["v", "w"]),
    "the place of another": lambda: changed("paths/w", ["v"]),
    "an odd place": lambda: changed("paths/w", ["w", 1.5]),
    "no list": lambda: changed("paths", {"w": ["x", 0], "v": ["x", "y"]}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_index_is_refused(name):
    assert parse(json.dumps(INDEX_OF_W).encode(), DEFAULT_LIMITS).tensors["w"].shape == (4, 2)
    data = HOSTILE[name]()
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityError, match="index of the distributed checkpoint cannot be read"):
            parse(data, DEFAULT_LIMITS)
        assert tracemalloc.get_traced_memory()[1] < len(data) + 4_000_000
    finally:
        tracemalloc.stop()


def test_a_newer_index_is_refused_by_name():
    with pytest.raises(FormatVersionError, match="version 2"):
        parse(changed("coral_distributed", 2), DEFAULT_LIMITS)


def test_an_index_of_version_1_is_read_for_ever():
    data = GOLDEN.read_bytes()
    index = parse(data, DEFAULT_LIMITS)
    tensor = index.tensors["model.weight"]
    assert tensor == IndexedTensor(
        DTYPES["BF16"],
        (5, 2),
        True,
        (Chunk(0, (0, 0), (3, 2)), Chunk(1, (3, 0), (2, 2)), Chunk(2, (5, 0), (0, 2))),
    )
    assert [chunk_name("model.weight", tensor, one) for one in tensor.chunks[:2]] == [
        "model.weight@0,0",
        "model.weight@3,0",
    ]
    assert chunk_name("step", index.tensors["step"], index.tensors["step"].chunks[0]) == "step"
    assert rank_file(3) == "distributed/rank-00003.safetensors"
    assert index.paths is not None
    assert index.paths["groups.0.lr"] == ("groups", 0, "lr")
    value = put_together(index.values["groups.0.lr"].tree, lambda name, _: name)
    assert value == 0.1
    assert render(index, DEFAULT_LIMITS) == data


@st.composite
def indexes(draw) -> Index:
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    tensors, values = {}, {}
    for name in names:
        if draw(st.booleans()):
            values[name] = IndexedValue(draw(st.none() | st.integers() | st.text()), draw(st.integers(0, 9)))
            continue
        shape = draw(st.lists(st.integers(0, 6), max_size=3).map(tuple))
        chunks = [Chunk(0, (0,) * len(shape), shape)]
        if shape and shape[0]:
            cut = draw(st.integers(0, shape[0]))
            rest = shape[1:]
            zeros = (0,) * len(rest)
            chunks = [Chunk(0, (0, *zeros), (cut, *rest)), Chunk(7, (cut, *zeros), (shape[0] - cut, *rest))]
        dtype = DTYPES[draw(st.sampled_from(["F32", "BF16", "F8_E4M3", "BOOL"]))]
        tensors[name] = IndexedTensor(dtype, shape, draw(st.booleans()), tuple(chunks))
    paths = draw(st.none() | st.just({name: ("state", name) for name in names}))
    return Index(tensors, values, paths)


@given(indexes())
def test_what_is_written_is_read(index):
    data = render(index, DEFAULT_LIMITS)
    assert data.isascii()
    found = parse(data, DEFAULT_LIMITS)
    assert render(found, DEFAULT_LIMITS) == data
    assert (list(found.tensors), list(found.values)) == (list(index.tensors), list(index.values))
    assert (found.values, found.paths) == (index.values, index.paths)
    for name, tensor in index.tensors.items():
        assert found.tensors[name]._replace(chunks=()) == tensor._replace(chunks=())
        assert set(found.tensors[name].chunks) == set(tensor.chunks)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
PLACES = """
    coral_distributed tensors values paths tensors/w tensors/x values/v paths/w paths/w/0 tensors/w/dtype
    tensors/w/shape tensors/w/chunks tensors/w/chunks/0 tensors/w/chunks/0/1 tensors/w/chunks/0/2/0
    values/v/value values/v/rank
"""


@given(st.sampled_from(PLACES.split()), JSON.filter(lambda value: value is not None))
@settings(max_examples=300)
def test_whatever_is_somewhere_is_read_or_refused(place, value):
    try:
        index = parse(changed(place, value), DEFAULT_LIMITS)
    except CoralError:
        return
    for one in index.values.values():
        with suppress(IntegrityError):
            put_together(one.tree, lambda name, is_torch: name if is_torch else [0])
    assert parse(render(index, DEFAULT_LIMITS), DEFAULT_LIMITS) == index


@given(st.binary(max_size=200))
def test_whatever_bytes_are_refused(data):
    with pytest.raises(CoralError):
        parse(data, DEFAULT_LIMITS)


def test_what_nobody_could_read_is_not_written():
    half = IndexedTensor(DTYPES["F32"], (4,), False, (Chunk(0, (0,), (2,)),))
    with pytest.raises(UsageError, match="the chunks of the tensor 'w' do not make it up"):
        render(Index({"w": half}, {}, None), DEFAULT_LIMITS)
    with pytest.raises(UsageError, match="too long"):
        render(
            Index({}, {"v": IndexedValue("x" * 2000, 0)}, None), DEFAULT_LIMITS._replace(manifest_bytes=1000)
        )
