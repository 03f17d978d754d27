"""Walking real histories."""

from __future__ import annotations

import pytest

from coral_git.errors import GitError, UsageError
from coral_git.git.command import Git
from coral_git.git.revisions import (
    Blob,
    TreeEntry,
    all_blobs,
    changed_files,
    has_commits,
    list_commits,
    list_index,
    list_tree,
    reachable_blobs,
    resolve_commit,
)

NAME = b"dir/\xff gr\xc3\xb6\xc3\x9fe\t*.st"


@pytest.fixture(params=["sha1", "sha256"])
def repo(request, make_repo):
    return make_repo(object_format=request.param)


@pytest.fixture
def git(repo) -> Git:
    return Git(str(repo.path))


def oid_of(repo, name: str) -> str:
    return repo.git("rev-parse", name)


def stored(repo, content: bytes) -> str:
    return Git(str(repo.path)).run("hash-object", "-w", "--stdin", input=content).decode().strip()


def contents(repo, blobs: list[Blob]) -> dict[bytes, bytes]:
    return {blob.path: repo.run("cat-file", "blob", blob.oid).stdout for blob in blobs}


def test_what_a_range_introduces(repo, git):
    repo.write(NAME, b"one")
    first = repo.commit(kept=b"same")
    repo.write(NAME, b"two")
    repo.commit(**{"copy": b"two", "a\nb": b"lf"})
    blobs = list(reachable_blobs(git, ["main", f"^{first}"]))
    assert len({blob.oid for blob in blobs}) == len(blobs) == 2
    assert set(contents(repo, blobs).values()) == {b"two", b"lf"}
    assert {blob.path for blob in blobs} == {b"a", b"copy"}  # no more of it is written than that
    found = contents(repo, list(reachable_blobs(git, [first])))
    assert found == {NAME: b"one", b"kept": b"same"}
    assert len(list(reachable_blobs(git, ["--all"]))) == 4
    assert list(reachable_blobs(git, [])) == []
    assert list(reachable_blobs(git, ["main", "^main"])) == []
    with pytest.raises(GitError, match="gone"):
        list(reachable_blobs(git, ["gone"]))


def test_a_reader_that_has_seen_enough(repo, git):
    repo.commit(**{str(number): b"%d" % number for number in range(50)})
    blobs = reachable_blobs(git, ["main"])
    assert next(blobs).path
    blobs.close()


def test_blobs_that_only_a_ref_names(repo, git):
    repo.commit(a=b"x")
    oid = stored(repo, b"lonely")
    repo.git("update-ref", "refs/coral/keep", oid)
    repo.git("tag", "-m", "tagged", "tagged", oid)
    assert oid in {blob.oid for blob in reachable_blobs(git, ["--all"])}


def test_reflog_and_detached_work_trees(repo, git, tmp_path):
    repo.commit(a=b"x")
    repo.commit(a=b"lost")
    repo.git("reset", "-q", "--hard", "HEAD~")
    lost = stored(repo, b"lost")
    assert lost not in {blob.oid for blob in reachable_blobs(git, ["--all"])}
    assert lost in {blob.oid for blob in reachable_blobs(git, ["--all", "--reflog"])}


def test_every_blob_up_to_a_size(repo, git):
    repo.commit(a=b"x", big=bytes(1000))
    repo.git("gc", "-q")
    loose, large = stored(repo, b"loose"), stored(repo, bytes(1001))
    assert set(all_blobs(git, 1000)) == {oid_of(repo, ":a"), oid_of(repo, ":big"), loose}
    assert large in set(all_blobs(git, 1001))


def test_tree(repo, git):
    repo.write(NAME, b"one")
    script = repo.write("run.sh", b"#!")
    script.chmod(0o755)
    (repo.path / "link").symlink_to("run.sh")
    commit = repo.commit()
    repo.git("update-index", "--add", "--cacheinfo", f"160000,{commit},module")
    repo.git("commit", "-qm", "submodule")
    entries = {entry.path: entry for entry in list_tree(git, "HEAD")}
    assert {path: entry.mode for path, entry in entries.items()} == {
        NAME: "100644",
        b"run.sh": "100755",
        b"link": "120000",
    }
    assert [path for path, entry in entries.items() if not entry.is_file] == [b"link"]
    assert entries[b"run.sh"].oid == oid_of(repo, "HEAD:run.sh")
    assert [entry.path for entry in list_tree(git, "HEAD", [b"run.sh", b"dir"])] == [NAME, b"run.sh"]
    assert {entry.path for entry in list_tree(Git(str(repo.path / "dir")), "HEAD")} == set(entries)


def test_index(repo, git):
    repo.write(NAME, b"one")
    repo.write("a", b"staged")
    repo.git("add", ".")
    assert list_index(git) == [
        TreeEntry("100644", oid_of(repo, ":a"), b"a"),
        TreeEntry("100644", stored(repo, b"one"), NAME),
    ]
    assert [entry.path for entry in list_index(git, ["*.st"])] == [NAME]
    with pytest.raises(UsageError, match="'gone' did not match"):
        list_index(git, ["gone"])


def test_index_in_conflict(repo, git):
    repo.commit(a=b"base")
    repo.git("checkout", "-qb", "side")
    repo.commit(a=b"theirs")
    repo.git("checkout", "-q", "main")
    repo.commit(a=b"ours")
    assert repo.run("merge", "side", check=False).returncode == 1
    stages = {entry.stage: repo.run("cat-file", "blob", entry.oid).stdout for entry in list_index(git)}
    assert stages == {1: b"base", 2: b"ours", 3: b"theirs"}


def test_sparse_checkout(repo, git):
    repo.commit(**{"in/a": b"x", "out/b": b"y"})
    for option in ("--no-sparse-index", "--sparse-index"):
        repo.git("sparse-checkout", "set", "--cone", option, "in")
        assert [(entry.path, entry.is_skipped) for entry in list_index(git)] == [
            (b"in/a", False),
            (b"out/b", True),
        ]


def test_changed_files(repo, git):
    repo.write(NAME, b"one")
    root = repo.commit(kept=b"same", gone=b"bye")
    assert {entry.path for entry in changed_files(git, root)} == {NAME, b"kept", b"gone"}
    (repo.path / "gone").unlink()
    repo.write(NAME, b"two")
    second = repo.commit()
    assert changed_files(git, second) == [TreeEntry("100644", stored(repo, b"two"), NAME)]
    repo.git("checkout", "-qb", "side", root)
    repo.commit(new=b"n")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-edit", "side")
    assert [entry.path for entry in changed_files(git, "HEAD")] == [b"new"]
    repo.git("mv", "new", "moved")
    repo.git("commit", "-qm", "rename")
    assert [entry.path for entry in changed_files(git, "HEAD")] == [b"moved"]


def test_revisions(repo, git):
    assert not has_commits(git)
    with pytest.raises(UsageError, match="'HEAD' is no commit"):
        resolve_commit(git, "HEAD")
    first = repo.commit(a=b"x")
    second = repo.commit(a=b"y")
    assert has_commits(git)
    assert resolve_commit(git, "main~") == first
    repo.git("tag", "-m", "annotated", "v1")
    assert resolve_commit(git, "v1") == second
    for wrong in ("gone", "HEAD:a", "--all", "-h", ""):
        with pytest.raises(UsageError, match="is no commit"):
            resolve_commit(git, wrong)
    assert list_commits(git, ["main"]) == [first, second]
    assert list_commits(git, [f"{first}..main"]) == [second]
    with pytest.raises(UsageError, match="bad revision range 'gone'"):
        list_commits(git, ["gone"])
