"""Commits as git has them, whatever stands in them."""

from __future__ import annotations

import math
from itertools import islice

import pytest

from coral_git.errors import UsageError
from coral_git.history.commits import Touched, one_commit, walk

ODD_PATHS = [
    b"plain.bin",
    b"line\nfeed.bin",
    b"\n:100644 leading",
    b'quo"te\\.bin',
    b"caf\xe9.bin",
    "größe/漢🙂.bin".encode(),
    b" \t\x1eblank",
    b":(top)magic",
    b"-dash",
    b"tab\tand\x1b[31m",
]
ODD_MESSAGES = {
    "subject only": ("subject only", ""),
    "subject\n\nbody\n\x1e and \x1f.\n": ("subject", "body\n\x1e and \x1f."),
    "\x1estart": ("\x1estart", ""),
    "two\nlines\n\nbody": ("two lines", "body"),
    "s\n\n\n\n:100644 100644 aaaa bbbb M\n": ("s", ":100644 100644 aaaa bbbb M"),
    "s\n\ngpgsig -----BEGIN PGP SIGNATURE-----\n\n iQ==\n -----END PGP SIGNATURE-----": (
        "s",
        "gpgsig -----BEGIN PGP SIGNATURE-----\n\n iQ==\n -----END PGP SIGNATURE-----",
    ),
    "%H %x00 %(trailers)": ("%H %x00 %(trailers)", ""),
    "": ("", ""),
    "größe 漢\u2028\x85\n\n\x0c": ("größe 漢\u2028\x85", ""),
}


def commits(history, *arguments, **options):
    return list(walk(history.runner, arguments or ("HEAD",), **options))


def test_messages_and_paths_as_they_are(history):
    oids = [history.commit(message) for message in ODD_MESSAGES]
    last = history.commit("paths", {path: path for path in ODD_PATHS})
    gone = history.commit("gone", dict.fromkeys(ODD_PATHS))
    found = commits(history)
    assert [one.oid for one in found] == [gone, last, *oids[::-1]]
    told = [(one.subject, one.body) for one in found[2:]]
    assert told == list(ODD_MESSAGES.values())[::-1]
    assert [one.parents for one in found] == [(one.oid,) for one in found[1:]] + [()]
    assert [file.path for file in found[1].files] == sorted(ODD_PATHS)
    for added, removed in zip(found[1].files, found[0].files, strict=True):
        assert added == Touched(
            added.path, added.path, "", history.git("hash-object", "--stdin", data=added.path)
        )
        assert removed == Touched(added.path, added.path, added.new, "")
    assert all(one.files == () for one in found[2:])


def test_who_and_when(history):
    history.commit(
        "first", GIT_AUTHOR_NAME="Ä\x1e B", GIT_AUTHOR_EMAIL="a b@c", GIT_AUTHOR_DATE="1234567890 +0200"
    )
    history.git("config", "i18n.commitEncoding", "latin1")
    history.commit("größe".encode("latin1"), GIT_AUTHOR_NAME="T")
    latin, first = commits(history)
    assert (first.author, first.email, first.time) == ("Ä\x1e B", "a b@c", 1234567890)
    assert latin.subject == "größe"


def test_bytes_that_are_no_text(history):
    head = history.git("cat-file", "commit", history.commit("head", {b"a\xff": b"x"})).partition("\n\n")[0]
    text = head.encode() + b"\n\n\xff\xfe subject\n\nCoral-Metric: a=1\nCoral-Tag: \xff\n"
    history.git("update-ref", "HEAD", history.git("hash-object", "-t", "commit", "-w", "--stdin", data=text))
    (found,) = commits(history)
    assert [file.path for file in found.files] == [b"a\xff"]
    assert found.subject == "\ufffd\ufffd subject"
    assert (found.facts.metrics, found.facts.labels) == ({"a": 1.0}, ("\ufffd",))


def test_only_trailers_say_something(history):
    history.commit("Coral-Metric: subject=1")
    history.commit("s\n\nCoral-Metric: middle=1\n\nmore text")
    history.commit("s\n\nCoral-Metric: last=1\nCoral-Metric: a.b/c=2e-3\nSigned-off-by: T\n")
    assert [one.facts.metrics for one in commits(history)] == [{"last": 1.0, "a.b/c": 0.002}, {}, {}]


def test_trailers_then_tags_then_notes(history):
    oid = history.commit("s\n\nCoral-Metric: a=1\nCoral-Metric: b=1\nCoral-Metric: c=1\nCoral-Tag: commit\n")
    history.tag("v1", oid, "v1\n\nCoral-Metric: b=2\nCoral-Metric: c=2\nCoral-Tag: tag\n")
    history.git("tag", "light", oid)
    (found,) = commits(history)
    assert found.facts.metrics == {"a": 1.0, "b": 2.0, "c": 2.0}
    assert found.refs == ("HEAD -> main", "tag: v1", "tag: light")
    history.note(oid, "Coral-Metric: c=3\n")
    history.note(oid, "Coral-Metric: d=nan\nCoral-Tag: note\n")
    facts = commits(history)[0].facts
    assert math.isnan(facts.metrics.pop("d"))
    assert facts.metrics == {"a": 1.0, "b": 2.0, "c": 3.0}
    assert facts.labels == ("commit", "tag", "note")


def test_a_tag_of_a_tag(history):
    oid = history.commit("s")
    history.tag("inner", oid, "inner\n\nCoral-Metric: a=1\n")
    history.tag("outer", "inner", "outer\n\nCoral-Metric: a=2\n")
    assert commits(history)[0].facts.metrics == {"a": 2.0}


def test_a_merge_differs_from_its_first_parent(history):
    base = history.commit("base", {"a": b"0", "b": b"0"})
    side = history.commit("side", {"b": b"1", "c": b"1"}, [base], "side")
    main = history.commit("main", {"a": b"1"})
    merge = history.commit("merge", {"b": b"1", "c": b"1"}, [main, side])
    found = {one.oid: one for one in commits(history)}
    assert found[merge].parents == (main, side)
    assert [file.path for file in found[merge].files] == [b"b", b"c"]
    assert [file.path for file in found[base].files] == [b"a", b"b"]
    assert [one.oid for one in commits(history, "--first-parent", "HEAD")] == [merge, main, base]
    octopus = history.commit("octopus", {"a": b"2"}, [merge, side, base])
    assert one_commit(history.runner, "HEAD").parents == (merge, side, base)
    assert one_commit(history.runner, octopus).files[0].path == b"a"


def test_renames_are_followed_when_asked(history):
    content = b"".join(b"line %d\n" % number for number in range(50))
    first = history.commit("first", {"old.txt": content})
    history.commit("other", {"other": b"x"})
    moved = history.commit("moved", {"old.txt": None, "new\nname": content + b"more"})
    last = history.commit("last", {"new\nname": content})
    assert [one.oid for one in commits(history, paths=["new\nname"])] == [last, moved]
    found = commits(history, "--follow", "HEAD", paths=["new\nname"])
    assert [one.oid for one in found] == [last, moved, first]
    assert (found[1].files[0].old_path, found[1].files[0].path) == (b"old.txt", b"new\nname")
    assert len(commits(history, "-1", "HEAD~1")[0].files) == 2


def test_links_and_submodules_are_no_files(history):
    oid = history.commit("base", {"a": b"x"})
    blob = history.git("hash-object", "-w", "--stdin", data=b"target")
    lines = f"120000 {blob}\tlink\n120000 {blob}\ta\n160000 {oid}\tsub\n100755 {blob}\tprogram\n"
    history.git("update-index", "--index-info", data=lines.encode())
    commit = history.git("commit-tree", history.git("write-tree"), "-p", oid, "-m", "links")
    (found,) = commits(history, "-1", commit)
    assert [(file.path, bool(file.old), bool(file.new)) for file in found.files] == [
        (b"a", True, False),
        (b"program", False, True),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log.showRoot", "false"),
        ("log.showSignature", "true"),
        ("log.follow", "true"),
        ("log.decorate", "full"),
        ("log.diffMerges", "separate"),
        ("log.date", "iso"),
        ("log.abbrevCommit", "true"),
        ("format.pretty", "oneline"),
        ("format.notes", "*"),
        ("notes.displayRef", "*"),
        ("diff.renames", "copies"),
        ("diff.relative", "true"),
        ("diff.noprefix", "true"),
        ("diff.orderFile", "nowhere"),
        ("diff.ignoreSubmodules", "all"),
        ("core.abbrev", "5"),
        ("core.quotePath", "true"),
        ("color.ui", "always"),
        ("i18n.logOutputEncoding", "latin1"),
        ("trailer.separators", "#"),
        ("core.notesRef", "refs/notes/other"),
    ],
)
def test_settings_of_the_user_change_nothing(history_with_all, name, value):
    history, expected = history_with_all
    history.git("config", name, value)
    try:
        git = history.workspace.git_in(str(history.path / "sub"))
        assert list(walk(git, ("--topo-order", "HEAD"))) == expected
    finally:
        history.git("config", "--unset", name)


@pytest.fixture(scope="module")
def history_with_all(make_history):
    """A history of renames, a merge, notes and tags, and its commits."""
    history = make_history()
    text = b"".join(b"line %d\n" % number for number in range(50))
    (history.path / "sub").mkdir()
    base = history.commit("größe\n\nCoral-Metric: a=1\n", {"a": text, "sub/b": b"0"})
    side = history.commit("side", {"sub/c": b"1"}, [base], "side")
    main = history.commit("rename", {"a": None, "sub/z": text})
    merge = history.commit("merge", {"sub/c": b"1"}, [main, side])
    history.tag("v1", merge, "v1\n\nCoral-Metric: b=1\n")
    history.note(base, "Coral-Metric: a=2\n")
    history.git("notes", "add", "-m", "Coral-Metric: a=3", base)
    return history, list(walk(history.runner, ("--topo-order", "HEAD")))


def test_the_history_of_these_settings(history_with_all):
    _, (merge, *_, base) = history_with_all
    assert (merge.facts.metrics, base.facts.metrics) == ({"b": 1.0}, {"a": 2.0})
    assert [file.path for file in base.files] == [b"a", b"sub/b"]


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_nothing_waits_for_the_last_commit(make_history, object_format):
    history = make_history(object_format)
    oids = [history.commit(f"number {number}", {"a": b"%d" % number}) for number in range(4)]
    found = list(islice(walk(history.runner), 2))
    assert [one.oid for one in found] == oids[:1:-1]
    assert found[0].files[0].old == found[1].files[0].new


def test_what_git_does_not_understand(history):
    with pytest.raises(UsageError):
        commits(history)
    history.commit("one")
    for words in (("nowhere",), ("HEAD~1",), ("a..b",), ("--no-such-option",)):
        with pytest.raises(UsageError) as caught:
            commits(history, *words)
        assert "git log" not in caught.value.message
    with pytest.raises(UsageError):
        one_commit(history.runner, "--all")
    assert one_commit(history.runner, "main").subject == "one"
