"""Tags as versions."""

from __future__ import annotations

import pytest

from coral_git.errors import UsageError
from coral_git.history.facts import Facts
from coral_git.history.tags import NewTag, list_tags, make_tag, said_by_tags


@pytest.fixture
def tagged(history):
    """A repository with one commit, and its id."""
    return history, history.commit(
        "s", GIT_AUTHOR_DATE="1234567890 +0000", GIT_COMMITTER_DATE="1234567890 +0000"
    )


def test_what_is_made_is_listed(tagged):
    history, oid = tagged
    metrics = {"accuracy": 0.1 + 0.2, "loss": float("inf")}
    make_tag(history.runner, NewTag("v10", "HEAD", "größe\n\nmore\n", metrics, ("best one", "b")))
    make_tag(history.runner, NewTag("v2", oid))
    (second, tenth) = list_tags(history.runner)
    assert (second.name, second.commit, second.description, second.facts) == ("v2", oid, "v2", Facts())
    assert (tenth.name, tenth.commit, tenth.description) == ("v10", oid, "größe")
    assert tenth.facts == Facts(metrics, ("best one", "b"))
    assert tenth.tagger == "T"
    assert set(said_by_tags(history.runner)) == {oid}


@pytest.mark.parametrize(
    "description",
    ["Note: good", "two\nlines", "one\n\nSigned-off-by: T", "#3", "ends\n\n\n", "a\x0cb\u2028c"],
)
def test_any_description_keeps_its_metrics(tagged, description):
    history, _ = tagged
    make_tag(history.runner, NewTag("v", "HEAD", description, {"a": 1.0}))
    (found,) = list_tags(history.runner)
    assert found.facts.metrics == {"a": 1.0}
    assert found.description == description.partition("\n\n")[0].replace("\n", " ")


def test_light_and_nested_tags_and_tags_of_no_commit(tagged):
    history, oid = tagged
    history.git("tag", "light")
    history.tag("inner", oid, "inner\n\nCoral-Metric: a=1\n")
    history.tag("outer", "inner", "outer\n\nCoral-Metric: a=2\n")
    blob = history.git("hash-object", "-w", "--stdin", data=b"x")
    history.tag("blob", blob, "blob")
    found = {one.name: one for one in list_tags(history.runner)}
    assert list(found) == ["blob", "inner", "light", "outer"]
    assert [found[name].commit for name in found] == [blob, oid, oid, oid]
    light = found["light"]
    assert (light.oid, light.tagger, light.time, light.description) == (oid, "", 1234567890, "")
    assert light.facts == Facts()


def test_patterns_choose(tagged):
    history, _ = tagged
    for name in ("v1", "v2", "a/v1", "V1"):
        history.git("tag", name)
    assert [one.name for one in list_tags(history.runner, ["v*", "a/*"])] == ["a/v1", "v1", "v2"]
    assert list(list_tags(history.runner, ["v[3-9]"])) == []


@pytest.mark.parametrize("name", ["", "-f", "a b", "a..b", "a\x1b", "a.lock", "/", "@{"])
def test_no_names_of_tags(tagged, name):
    with pytest.raises(UsageError, match="is no name of a tag") as caught:
        make_tag(tagged[0].runner, NewTag(name))
    assert caught.value.message.isprintable()


def test_a_tag_is_not_replaced_by_accident(tagged):
    history, oid = tagged
    make_tag(history.runner, NewTag("v", oid, "one"))
    with pytest.raises(UsageError, match="tag 'v' exists already"):
        make_tag(history.runner, NewTag("v", oid, "two"))
    make_tag(history.runner, NewTag("v", oid, "two", force=True))
    assert [one.description for one in list_tags(history.runner)] == ["two"]
    for revision in ("nowhere", "HEAD~1", "--all", "HEAD^{tree}"):
        with pytest.raises(UsageError, match="is no commit"):
            make_tag(history.runner, NewTag("w", revision))
