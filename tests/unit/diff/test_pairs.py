"""Which tensor is which, against the rules said in other words."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.diff.model import Status
from coral_git.diff.pairs import pair_tensors
from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.types import DTYPES, FileDigest, ObjectId


def entry(name, version=1, dtype="F32", shape=(2, 2)):
    objects = () if 0 in shape else (ObjectId(bytes([version]) * 32),)
    return TensorEntry(name, DTYPES[dtype], shape, objects)


def manifest(*tensors):
    return Manifest("safetensors/1", 0, FileDigest(bytes(32)), tensor_count=len(tensors), tensors=tensors)


ENTRIES = st.builds(
    entry,
    st.sampled_from("abcde"),
    st.integers(1, 3),
    st.sampled_from(["F32", "I32"]),
    st.sampled_from([(2, 2), (4, 1), (0, 2)]),
)
FILES = st.none() | st.lists(ENTRIES, unique_by=lambda one: one.name).map(lambda them: manifest(*them))


@settings(deadline=None, max_examples=60)
@given(FILES, FILES)
def test_every_tensor_stands_in_one_pair(old, new):
    pairs, same = pair_tensors(old, new)
    before, after = ({one.name: one for one in file.tensors} if file else {} for file in (old, new))
    assert same == sum(after.get(name) == one for name, one in before.items())
    news = [pair.new for pair in pairs if pair.new is not None]
    olds = [pair.old for pair in pairs if pair.old is not None]
    assert news == [one for one in after.values() if before.get(one.name) != one]
    assert Counter(olds) == Counter(one for one in before.values() if after.get(one.name) != one)
    removed = [pair.old.name for pair in pairs if pair.new is None]
    assert [pair.old for pair in pairs[len(news) :]] == [before[name] for name in before if name in removed]
    for pair in pairs:
        match pair:
            case (Status.ADDED, None, new_entry):
                assert new_entry.name not in before
            case (Status.REMOVED, old_entry, None):
                assert old_entry.name not in after
            case (Status.RENAMED, old_entry, new_entry):
                assert old_entry[1:] == new_entry[1:]
                assert old_entry.objects
                assert old_entry.name not in after
                assert new_entry.name not in before
            case (status, old_entry, new_entry):
                assert old_entry.name == new_entry.name
                is_cast = old_entry.dtype != new_entry.dtype
                is_reshaped = old_entry.shape != new_entry.shape
                expected = Status.RESHAPED if is_reshaped else Status.CHANGED
                assert status == (Status.RETYPED if is_cast else expected)


@settings(deadline=None, max_examples=60)
@given(FILES, FILES)
def test_as_many_renames_as_there_can_be(old, new):
    pairs, _ = pair_tensors(old, new)
    gone = Counter(pair.old[1:] for pair in pairs if pair.status == Status.REMOVED and pair.old.objects)
    come = Counter(pair.new[1:] for pair in pairs if pair.status == Status.ADDED and pair.new.objects)
    assert not gone & come


@settings(deadline=None, max_examples=60)
@given(FILES)
def test_a_file_is_the_same_as_itself(file):
    assert pair_tensors(file, file) == ([], len(file.tensors) if file else 0)


def test_what_has_no_bytes_is_not_renamed():
    pairs, _ = pair_tensors(manifest(entry("a", shape=(0, 2))), manifest(entry("b", shape=(0, 2))))
    assert [pair.status for pair in pairs] == [Status.ADDED, Status.REMOVED]


def test_equal_tensors_are_renamed_in_order():
    pairs, _ = pair_tensors(manifest(*map(entry, "abc")), manifest(*map(entry, "xay")))
    assert [(pair.status, pair.old.name, pair.new and pair.new.name) for pair in pairs] == [
        (Status.RENAMED, "b", "x"),
        (Status.RENAMED, "c", "y"),
    ]
