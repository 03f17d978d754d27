"""What became of each tensor, from manifests alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coral_git.manifest.entries import Manifest, TensorEntry
from coral_git.merge.choices import Choice, Choices, parse_rule
from coral_git.merge.decide import decide
from coral_git.merge.three_way import Change, Outcome, changes
from coral_git.types import DTYPES, FileDigest, ObjectId

NAMES = "abcdef"


def entry(name: str, version: int, dtype: str = "F32", shape: tuple[int, ...] = (2, 2)) -> TensorEntry:
    return TensorEntry(name, DTYPES[dtype], shape, (ObjectId(bytes([version]) * 32),))


def manifest(tensors: dict[str, int]) -> Manifest:
    entries = tuple(entry(name, version) for name, version in tensors.items())
    return Manifest("safetensors/1", 0, FileDigest(bytes(32)), tensor_count=len(entries), tensors=entries)


def version_lists() -> st.SearchStrategy[dict[str, int]]:
    """A file: some names in some order, each with one of three versions."""
    names = st.permutations(NAMES).flatmap(lambda all_of: st.integers(0, 6).map(lambda n: all_of[:n]))
    return names.flatmap(
        lambda some: st.lists(st.integers(0, 2), min_size=len(some), max_size=len(some)).map(
            lambda versions: dict(zip(some, versions, strict=True))
        )
    )


@given(st.none() | version_lists(), st.lists(version_lists(), min_size=2, max_size=4))
def test_every_tensor_once_in_the_order_of_ours(base, sides):
    found = changes(None if base is None else manifest(base), [manifest(side) for side in sides])
    names = [change.name for change in found]
    assert sorted(names) == sorted({*(base or {}), *(name for side in sides for name in side)})
    assert [name for name in names if name in sides[0]] == list(sides[0])


@given(st.none() | version_lists(), version_lists(), version_lists())
def test_the_rules_of_a_three_way_merge(base, ours, theirs):
    before = base or {}
    for change in changes(None if base is None else manifest(base), [manifest(ours), manifest(theirs)]):
        o, a, b = (versions.get(change.name) for versions in (before, ours, theirs))
        result = None if change.result is None else change.result.objects[0][0]
        if a == b:
            assert (change.is_contested, result) == (False, a)
        elif a == o:
            assert (change.is_contested, result) == (False, b)
        elif b == o:
            assert (change.is_contested, result) == (False, a)
        else:
            assert change.is_contested


@given(version_lists(), version_lists(), version_lists())
def test_the_sides_may_be_exchanged(base, ours, theirs):
    files = [manifest(ours), manifest(theirs)]
    one = {change.name: change for change in changes(manifest(base), files)}
    for change in changes(manifest(base), files[::-1]):
        other = one[change.name]
        assert change.is_contested == other.is_contested
        assert change.is_contested or change.result == other.result


def test_what_others_added_stays_behind_what_it_followed():
    ours = manifest({"a": 0, "b": 0, "x": 1})
    theirs = manifest({"first": 1, "a": 0, "y": 1, "z": 1, "b": 0})
    found = [change.name for change in changes(manifest({"a": 0, "b": 0}), [ours, theirs])]
    assert found == ["first", "a", "y", "z", "b", "x"]


def test_outcomes_in_words():
    base = {"same": 0, "ours": 0, "theirs": 0, "both": 0, "gone": 0, "gone twice": 0}
    ours = {"same": 0, "ours": 1, "theirs": 0, "both": 1, "gone": 0, "new": 1, "alike": 1}
    theirs = {"same": 0, "ours": 0, "theirs": 1, "both": 1, "alike": 1}
    found = changes(manifest(base), [manifest(ours), manifest(theirs)])
    assert {change.name: str(change.outcome) for change in found} == {
        "same": "unchanged",
        "ours": "ours",
        "theirs": "theirs",
        "both": "both",
        "gone": "removed",
        "gone twice": "removed",
        "new": "added",
        "alike": "added",
    }


def decided(change: Change, choices: Choices) -> tuple[Outcome, TensorEntry | None, str]:
    (decision,) = decide([change], choices)
    return decision.outcome, decision.result, decision.reason


def contested(dtype: str = "F32", **sides: TensorEntry | None) -> Change:
    versions = {"base": entry("t", 0, dtype), "ours": entry("t", 1, dtype), "theirs": entry("t", 2, dtype)}
    versions |= sides
    return Change("t", versions["base"], (versions["ours"], versions["theirs"]))


def test_a_choice_takes_a_version_as_it_is():
    change = contested()
    for name, outcome, result in (
        ("ours", Outcome.OURS, change.sides[0]),
        ("theirs", Outcome.THEIRS, change.sides[1]),
        ("base", Outcome.BASE, change.base),
    ):
        assert decided(change, Choices(Choice(name))) == (outcome, result, "")
    assert decided(change, Choices()) == (Outcome.CONFLICT, change.sides[0], "changed on both sides")


def test_the_last_rule_that_matches_counts():
    rules = tuple(parse_rule(text, "here") for text in ("*=theirs", "t=base", "u*=ours"))
    assert decided(contested(), Choices(Choice("average"), rules))[0] is Outcome.BASE


def test_only_floats_are_computed():
    average = Choices(Choice("average"))
    for dtype in ("F32", "F64", "BF16", "F16", "F8_E4M3", "C64", "F32_BE"):
        assert decided(contested(dtype), average)[0] is Outcome.MERGED
    for dtype in ("I64", "BOOL", "U8", "F4", "F8_E8M0", "I32_BE"):
        assert decided(contested(dtype), average)[0] is Outcome.OURS
        assert decided(contested(dtype), average._replace(integers="theirs"))[0] is Outcome.THEIRS
        ruled = average._replace(rules=(parse_rule("t=average", "here"),))
        outcome, _, reason = decided(contested(dtype), ruled)
        assert (outcome, reason) == (
            Outcome.CONFLICT,
            f"{dtype} has no values that 'average' could compute with",
        )


def test_what_no_strategy_can_compute():
    ties, average = Choices(Choice("ties")), Choices(Choice("average"))
    wider = entry("t", 2, shape=(4, 1))
    assert decided(contested(theirs=wider), average)[2] == "has another dtype or shape on each side"
    half = entry("t", 2, "BF16", (2, 2))
    assert decided(contested(theirs=half), average)[2] == "has another dtype or shape on each side"
    assert decided(contested(theirs=None), average)[2] == "changed on one side and removed on another"
    assert decided(contested(base=None), ties)[2] == "there is no common ancestor, which 'ties' needs"
    assert decided(contested(base=entry("t", 0, shape=(1, 4))), ties)[0] is Outcome.CONFLICT
    assert decided(contested(base=None), average)[0] is Outcome.MERGED
    many = Change("t", entry("t", 0), tuple(entry("t", number) for number in (1, 2, 3)))
    assert decided(many, Choices(Choice("slerp")))[2] == "changed on 3 sides, and 'slerp' takes 2"
    assert decided(many, average)[0] is Outcome.MERGED


def test_a_removed_tensor_may_be_chosen():
    gone = contested(ours=None)
    assert decided(gone, Choices(Choice("ours"))) == (Outcome.OURS, None, "")
    assert decided(gone, Choices(Choice("theirs")))[1] == gone.sides[1]
    integers = contested("I64", ours=None)
    assert decided(integers, Choices(Choice("average"))) == (Outcome.OURS, None, "")
