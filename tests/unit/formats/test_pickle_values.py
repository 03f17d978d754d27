"""Pickles: read as Python reads them where they are harmless, and never obeyed."""

from __future__ import annotations

import collections
import pickle
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.formats.base import NotThisFormat
from coral_git.formats.pickle_values import CutShortError, Global, Made, Persistent, read_pickle
from coral_git.formats.torch_objects import find_tensors
from coral_git.limits import DEFAULT_LIMITS

PROTOCOLS = [2, 3, 4, 5]


def plain(value: Any) -> Any:
    """The Python value that an inert one stands for, with dicts as lists of pairs."""
    if isinstance(value, Made):
        assert value.maker is None
        items = value.items or []
        return [(plain(key), plain(item)) for key, item in zip(items[::2], items[1::2], strict=True)]
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value


def pairs(value: Any) -> Any:
    """The same of a Python value; bytes are left out."""
    if isinstance(value, dict):
        return [(pairs(key), pairs(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value)(map(pairs, value))
    return None if isinstance(value, bytes) else value


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**120), 2**120),
    st.floats(allow_nan=False),
    st.text(max_size=300),
    st.binary(max_size=300),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(_VALUES, st.sampled_from(PROTOCOLS[1:]))
def test_plain_values(value: object, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    result, end = read_pickle(b"??" + data + b"rest", 2, DEFAULT_LIMITS)
    assert end == 2 + len(data)
    assert plain(result) == pairs(value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_calls_would_have_made(protocol: int) -> None:
    value = collections.OrderedDict(a=1)
    made, _ = read_pickle(pickle.dumps(value, protocol), 0, DEFAULT_LIMITS)
    assert isinstance(made, Made)
    assert isinstance(made.maker, Global)
    assert (made.maker.module, made.maker.name) == ("collections", "OrderedDict")
    assert made.items == ["a", 1]
    state, _ = read_pickle(pickle.dumps(pickle.PickleError("x", {1}), protocol), 0, DEFAULT_LIMITS)
    assert isinstance(state, Made)
    assert state.arguments


def test_sets_and_deques_keep_what_is_in_them() -> None:
    for protocol in PROTOCOLS:
        made, _ = read_pickle(pickle.dumps(collections.deque([5, 6]), protocol), 0, DEFAULT_LIMITS)
        assert isinstance(made, Made)
        assert made.items == [None, 5, None, 6]
    assert read_pickle(pickle.dumps({5}, 4), 0, DEFAULT_LIMITS)[0] == [5]
    assert read_pickle(pickle.dumps(frozenset({5}), 4), 0, DEFAULT_LIMITS)[0] == [5]


def test_long_strings_and_numbers_are_left_out() -> None:
    value = ["x" * 4096, "x" * 4097, 2**127 - 1, 2**127, -(2**9000), b"abc", bytearray(b"abc")]
    assert read_pickle(pickle.dumps(value, 5), 0, DEFAULT_LIMITS)[0] == [
        "x" * 4096,
        None,
        2**127 - 1,
        None,
        None,
        None,
        None,
    ]


def test_persistent_ids() -> None:
    value, _ = read_pickle(b"\x80\x02K\x05Q.", 0, DEFAULT_LIMITS)
    assert isinstance(value, Persistent)
    assert value.id == 5


@pytest.mark.parametrize(
    "data",
    [
        b"I1\n.",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02t.",
        b"\x80\x02K\x01a.",
        b"\x80\x02K\x01K\x02a.",
        b"\x80\x02}K\x01(K\x01u.",
        b"\x80\x02]K\x01K\x02s.",
        b"\x80\x02(}K\x01u.",
        b"\x80\x02h\x05.",
        b"\x80\x02R.",
        b"\x80\x02\x85.",
        b"\x80\x02\x87.",
        b"\x80\x02q\x01.",
        b"\x80\x02Q.",
        b"\x80\x02b.",
        b"\x80\x02K\x01K\x01\x93.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02i__builtin__\neval\n.",
        b"\x80\x02\x97.",
        b"\x80\x02c\xff\n\n.",
        b"\x80\x02c" + b"x" * 5000 + b"\n.",
        b"\x80\x02\x8b\xff\xff\xff\xff.",
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x05\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(NotThisFormat):
        read_pickle(data, 0, DEFAULT_LIMITS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_short_anywhere(protocol: int) -> None:
    data = pickle.dumps(
        {"a": [1, 2.5, "xyz" * 100, 10**30, collections.OrderedDict(b=(1, 2, 3, 4))]}, protocol
    )
    for length in range(len(data)):
        with pytest.raises(CutShortError):
            read_pickle(data[:length], 0, DEFAULT_LIMITS)


def test_too_many_opcodes() -> None:
    limits = DEFAULT_LIMITS._replace(pickle_opcodes=10)
    assert read_pickle(b"\x80\x02" + b"N" * 8 + b".", 0, limits)[0] is None
    with pytest.raises(NotThisFormat, match="too many opcodes"):
        read_pickle(b"\x80\x02" + b"N" * 9 + b".", 0, limits)


def test_values_nested_too_deeply() -> None:
    limits = DEFAULT_LIMITS._replace(pickle_depth=9)
    for depth, fits in ((9, True), (10, False)):
        value, _ = read_pickle(b"\x80\x02K\x01" + b"\x85" * (depth + 1) + b".", 0, limits)
        if fits:
            assert find_tensors(value, (), limits).views == []
        else:
            with pytest.raises(NotThisFormat, match="too deeply"):
                find_tensors(value, (), limits)


def traced(data: bytes) -> int:
    """Bytes of memory at the peak of reading a pickle and looking for tensors in it."""
    tracemalloc.start()
    try:
        value, _ = read_pickle(data, 0, DEFAULT_LIMITS)
        find_tensors(value, (), DEFAULT_LIMITS)
    except NotThisFormat:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


N = 50_000
SHARED = b"\x80\x02](" + b"K\x01" * N + b"eq\x00\x85q\x01("


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02(" + b"}" * N + b"t.",
        b"\x80\x02(" + b"]" * N + b"t.",
        b"\x80\x02)" + b"\x85" * N + b".",
        b"\x80\x02" + b"]" * N + b"a" * (N - 1) + b".",
        b"\x80\x02" + b"(" * N + b"t.",
        b"\x80\x02]" + b"".join(b"r" + struct.pack("<L", index) for index in range(N)) + b".",
        b"\x80\x02]q\x00" + b"h\x00a" * N + b".",
        b"\x80\x02(X\x00\x10\x00\x00" + b"x" * 4096 + b"q\x00" + b"h\x00h\x00\x93" * N + b"t.",
        SHARED + b"ccollections\nOrderedDict\nh\x01R" * 10_000 + b"t.",
        SHARED + b"ctorch._utils\n_rebuild_tensor_v2\nNK\x00h\x00h\x00tR(" * 10_000 + b"t.",
        SHARED + b"cm\nx\n)Rh\x00b" * 10_000 + b"t.",
    ],
)
def test_bombs_take_little_memory_and_few_steps(data: bytes) -> None:
    assert traced(data) < 1200 * N


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_pickles(draw) -> None:
    value = {"a": [1, {"b": (2.5, "c")}], "d": collections.OrderedDict(e=range(3))}
    data = bytearray(pickle.dumps(value, draw.draw(st.sampled_from(PROTOCOLS))))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(2, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        value, _ = read_pickle(bytes(data), 0, DEFAULT_LIMITS)
    except NotThisFormat:
        return
    find_tensors(value, (), DEFAULT_LIMITS)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=60))
def test_any_opcodes(codes: list[bytes]) -> None:
    try:
        value, _ = read_pickle(b"\x80\x02" + b"".join(codes) + b".", 0, DEFAULT_LIMITS)
    except NotThisFormat:
        return
    find_tensors(value, (), DEFAULT_LIMITS)
