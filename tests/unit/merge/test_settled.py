"""What was settled is found again for the same versions, and for no others; damage is no error."""

from __future__ import annotations

import json
import subprocess

import pytest

from coral_git.merge.choices import Choice, Choices
from coral_git.merge.conflicts import Conflict, Version
from coral_git.merge.decide import Decision
from coral_git.merge.merge_file import FileMerge
from coral_git.merge.parameters import Parameters
from coral_git.merge.plan import Plan
from coral_git.merge.settled import FILE_NAME, Settled, forget, recall, remember
from coral_git.merge.three_way import Change, Outcome
from coral_git.pipeline.workspace import Workspace
from coral_git.testing.faults import fail_each

PATH = b"a/\xff m.bin"
STAGES = ("", "22", "33")
WEIGHTED = Choice("weighted", Parameters(alpha=0.3))
GOLDEN = rb"""{
 "files": {
  "a/\udcff m.bin": {
   "rest": "theirs",
   "stages": [
    "",
    "22",
    "33"
   ],
   "tensors": {
    "ours": [
     "\u00e9"
    ],
    "weighted:alpha=0.3": [
     "a",
     "b.w"
    ]
   }
  }
 },
 "version": 1
}
"""


@pytest.fixture
def workspace(tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    found = Workspace.open(str(tmp_path))
    yield found
    found.close()


@pytest.fixture
def place(tmp_path):
    return tmp_path / ".git" / FILE_NAME


def conflict(stages=STAGES):
    versions = [Version(oid, "100644", b"", None) if oid else None for oid in stages]
    return Conflict(PATH, *versions, is_unmerged=True)


def decision(name, choice, outcome):
    return Decision(Change(name, None, (None, None)), outcome, None, choice)


MERGED = FileMerge(
    b"",
    Plan(
        None,
        (),
        (
            decision("a", WEIGHTED, Outcome.MERGED),
            decision("b.w", WEIGHTED, Outcome.MERGED),
            decision("é", Choice("ours"), Outcome.OURS),
            decision("left", Choice("fail"), Outcome.CONFLICT),
            decision("untouched", None, Outcome.THEIRS),
        ),
        None,
    ),
    "1 tensor needs a decision",
)
CHOICES = Choices(rest="theirs")
SETTLED = Settled({"a": WEIGHTED, "b.w": WEIGHTED, "é": Choice("ours")}, "theirs")


def test_it_is_found_again(workspace, place):
    remember(workspace, PATH, STAGES, MERGED, CHOICES)
    assert place.read_bytes() == GOLDEN
    assert recall(workspace, conflict()) == SETTLED
    assert recall(workspace, conflict(("11", "22", "33"))) == Settled()
    assert recall(workspace, conflict()._replace(path=b"other")) == Settled()


def test_what_is_not_in_conflict_is_dropped(workspace, place):
    remember(workspace, PATH, STAGES, MERGED, CHOICES)
    remember(workspace, b"other", STAGES, MERGED, CHOICES)
    forget(workspace, b"other")
    assert not place.exists()
    forget(workspace, b"other")


def test_other_conflicts_stay(workspace, place, tmp_path):
    oid = workspace.git.run("hash-object", "-w", "--stdin", input=b"x").decode().strip()
    lines = b"".join(b"100644 %b %d\t%b\0" % (oid.encode(), stage, PATH) for stage in (2, 3))
    workspace.git.run("update-index", "-z", "--index-info", input=lines)
    remember(workspace, PATH, ("", oid, oid), MERGED, CHOICES)
    remember(workspace, b"other", STAGES, MERGED, CHOICES)
    forget(workspace, b"other")
    assert recall(workspace, conflict(("", oid, oid))) == SETTLED


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[" * 100_000,
        b"[]",
        b"\xff",
        b'{"version": 2, "files": {}}',
        b'{"version": 1, "files": []}',
        GOLDEN.replace(b"weighted", b"unknown"),
        GOLDEN.replace(b"0.3", b"3"),
        GOLDEN.replace(b'"stages"', b'"steps"'),
        GOLDEN.replace(b'"tensors": {', b'"tensors": 1, "x": {'),
        json.dumps({"version": 1, "files": {"a/\udcff m.bin": 7}}).encode(),
    ],
)
def test_damage_counts_for_nothing(workspace, place, text):
    place.write_bytes(text)
    assert recall(workspace, conflict()) == Settled()
    remember(workspace, PATH, STAGES, MERGED, CHOICES)
    assert recall(workspace, conflict()) == SETTLED


def test_a_write_that_fails_leaves_the_old_or_the_new_one(workspace, place):
    other = CHOICES._replace(rest="ours")

    def prepare():
        remember(workspace, PATH, STAGES, MERGED, CHOICES)
        return place

    def verify(_place, completed):
        found = recall(workspace, conflict())
        assert found == SETTLED._replace(rest="ours") if completed else found.tensors == SETTLED.tensors

    points = fail_each(lambda _: remember(workspace, PATH, STAGES, MERGED, other), prepare, verify)
    assert points
