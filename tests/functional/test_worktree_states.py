"""Every way in which git changes a work tree leaves the right bytes in it, and a clean status."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def versions(model, tune, safetensors):
    """The bytes of five versions of a model, each a fine-tuned step after the last."""
    tensors = model(layers=1, width=24)
    found = []
    for seed in range(5):
        found.append(safetensors(tensors))
        tensors = tune(tensors, seed)
    return found


@pytest.fixture
def line(repo, versions):
    """Three commits of ``m.safetensors`` on main, tagged v0 to v2."""
    for number in range(3):
        repo.commit(f"v{number}", m__safetensors=versions[number])
        repo.git("tag", f"v{number}")
    return repo


@pytest.fixture
def forked(line, versions):
    """Branch ``side`` (version 3) leaves main at v1; main is at v2."""
    line.git("checkout", "--quiet", "-b", "side", "v1")
    line.commit("side", m__safetensors=versions[3])
    line.git("checkout", "--quiet", "main")
    return line


def assert_has(repo, data, name="m.safetensors"):
    assert repo.read(name) == data
    assert repo.status("--untracked-files=no") == ""


def test_switching_between_commits_and_branches(forked, versions, assert_healthy):
    repo = forked
    for target, number in (("v0", 0), ("side", 3), ("main", 2), ("v1", 1)):
        repo.git("checkout", "--quiet", target)
        assert_has(repo, versions[number])
    repo.git("switch", "--quiet", "main")
    assert_has(repo, versions[2])
    assert_healthy(repo)


def test_reset_restore_and_checkout_of_a_path(line, versions, assert_healthy):
    line.git("reset", "--quiet", "--hard", "v0")
    assert_has(line, versions[0])
    line.git("reset", "--quiet", "--hard", "v2")
    line.write("m.safetensors", b"spoilt")
    line.git("restore", "m.safetensors")
    assert_has(line, versions[2])
    line.git("restore", "--source=v1", "m.safetensors")
    assert line.read("m.safetensors") == versions[1]
    line.git("checkout", "v0", "--", "m.safetensors")
    assert line.read("m.safetensors") == versions[0]
    line.git("reset", "--quiet", "--hard")
    (line.path / "m.safetensors").unlink()
    line.git("checkout", "--", ".")
    assert_has(line, versions[2])
    assert_healthy(line)


def test_stash_and_pop(line, versions, assert_healthy):
    line.write("m.safetensors", versions[4])
    line.git("stash", "--quiet")
    assert_has(line, versions[2])
    line.git("stash", "pop", "--quiet")
    assert line.read("m.safetensors") == versions[4]
    assert line.status() == " M m.safetensors"
    assert_healthy(line)


def test_stash_of_an_unfinished_file_keeps_the_manifest(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "v1", env={"CORAL_SKIP_SMUDGE": "1"})
    assert line.read("m.safetensors") == line.blob("v1:m.safetensors")
    line.write("other.bin", b"x")
    line.git("stash", "--quiet", "--include-untracked")
    line.git("stash", "pop", "--quiet")
    line.coral("checkout")
    assert_has(line, versions[1])
    assert_healthy(line)


def test_staging_by_hunks(line, versions, assert_healthy):
    line.write("m.safetensors", versions[4])
    line.git("add", "--patch", data=b"a\na\na\n")
    assert line.status() == "M  m.safetensors"
    line.git("commit", "--quiet", "-m", "by hunks")
    line.git("checkout", "--quiet", "HEAD~")
    line.git("checkout", "--quiet", "main")
    assert_has(line, versions[4])
    assert_healthy(line)


def test_a_linked_work_tree_shares_the_store(line, versions, at, assert_healthy):
    line.git("worktree", "add", "--quiet", "../linked", "v0")
    linked = at(line.path.parent / "linked")
    assert_has(linked, versions[0])
    assert not (linked.path / ".coral").exists()
    linked.commit("here", m__safetensors=versions[4])
    assert linked.coral("checkout") == ""
    assert_healthy(linked)
    line.git("checkout", "--quiet", linked.git("rev-parse", "HEAD"))
    assert_has(line, versions[4])
    line.git("worktree", "remove", "--force", "../linked")
    assert_healthy(line)


def test_rebase(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "side", "v0")
    line.commit("other", other__safetensors=versions[4])
    line.git("rebase", "--quiet", "main")
    assert_has(line, versions[2])
    assert_has(line, versions[4], "other.safetensors")
    assert_healthy(line)


def test_commands_that_a_rebase_executes_see_the_files(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "side", "v0")
    line.commit("other", other__safetensors=versions[4])
    line.git("rebase", "--quiet", "--exec", "sha256sum m.safetensors other.safetensors >> ../seen", "main")
    line.git("reset", "--quiet", "--hard")
    expected = line.git("-c", "alias.sums=!sha256sum m.safetensors other.safetensors", "sums")
    assert (line.path.parent / "seen").read_text().strip() == expected
    assert_healthy(line)


def test_rebase_of_changes_to_the_model(forked, versions, assert_healthy):
    forked.git("checkout", "--quiet", "side")
    forked.git("rebase", "--quiet", "main", code=1)
    assert forked.read("m.safetensors") == versions[2]  # upstream is ours in a rebase
    forked.git("checkout", "--quiet", "--theirs", "m.safetensors")
    assert forked.read("m.safetensors") == versions[3]
    forked.git("add", "m.safetensors")
    forked.git("rebase", "--continue")
    assert_has(forked, versions[3])
    assert_healthy(forked)


def test_cherry_pick_and_revert(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "side", "v0")
    line.commit("text", notes=b"hello\n")
    line.git("cherry-pick", "v1")
    assert_has(line, versions[1])
    line.git("revert", "--no-edit", "HEAD")
    assert_has(line, versions[0])
    assert_healthy(line)


def test_bisect_run_tests_real_files(line, versions, assert_healthy):
    good = line.git("hash-object", "--no-filters", "--stdin", data=versions[0])
    line.git("bisect", "start", "main", "v0")
    script = f'test "$(git hash-object --no-filters m.safetensors)" = {good}'
    output = line.git("bisect", "run", "sh", "-c", script)
    assert f"{line.git('rev-parse', 'v1')} is the first bad commit" in output
    line.git("bisect", "reset")
    assert_has(line, versions[2])
    assert_healthy(line)


def test_merge_fast_forward(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "old", "v0")
    line.git("merge", "--quiet", "--ff-only", "main")
    assert_has(line, versions[2])
    assert_healthy(line)


def test_merge_of_one_side_only(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "side", "v0")
    line.commit("text", notes=b"hello\n")
    line.git("merge", "--quiet", "--no-edit", "main")
    assert_has(line, versions[2])
    assert_healthy(line)


def test_a_conflict_leaves_ours_whole(forked, versions, assert_healthy):
    said = forked.run("merge", "side", code=1)
    assert b"'m.safetensors': 3 tensors need a decision" in said.stderr
    assert forked.read("m.safetensors") == versions[2]
    assert forked.status() == "UU m.safetensors"
    assert forked.blob(":2:m.safetensors") == forked.blob("main:m.safetensors")
    forked.git("checkout", "--quiet", "--theirs", "--", "m.safetensors")
    assert forked.read("m.safetensors") == versions[3]
    forked.git("checkout", "--quiet", "--merge", "--", "m.safetensors")
    assert forked.read("m.safetensors") == versions[2]
    forked.git("add", "m.safetensors")
    forked.git("commit", "--quiet", "--no-edit")
    assert_has(forked, versions[2])
    assert_healthy(forked)


def test_aborting_a_merge(forked, versions, assert_healthy):
    forked.git("merge", "side", code=1)
    forked.git("merge", "--abort")
    assert_has(forked, versions[2])
    assert_healthy(forked)


def test_equal_files_on_both_sides_merge(line, versions, assert_healthy):
    line.git("checkout", "--quiet", "-b", "side", "v0")
    line.commit("the same", m__safetensors=versions[2], notes=b"x\n")
    line.git("merge", "--quiet", "--no-edit", "main")
    assert_has(line, versions[2])
    assert_healthy(line)


@pytest.mark.parametrize("value", ["true", "input"])
def test_converted_line_ends_leave_weights_alone(repo, versions, assert_healthy, value):
    repo.git("config", "core.autocrlf", value)
    weights = b"\r\n\n\r" * 500
    repo.commit("one", w__bin=weights, m__safetensors=versions[0])
    repo.commit("two", w__bin=weights + b"\n", m__safetensors=versions[1])
    repo.git("checkout", "--quiet", "HEAD~")
    assert_has(repo, weights, "w.bin")
    assert_has(repo, versions[0])
    assert_healthy(repo)


def test_from_a_folder_below(line, versions, assert_healthy):
    line.commit("deep", **{"a/b/deep__safetensors": versions[3]})
    below = line.path / "a" / "b"
    line.write("a/b/deep.safetensors", versions[4])
    line.git("add", "deep.safetensors", cwd=below)
    line.git("commit", "--quiet", "-m", "changed", cwd=below)
    line.git("checkout", "--quiet", "HEAD~", cwd=below)
    assert_has(line, versions[3], "a/b/deep.safetensors")
    (below / "deep.safetensors").unlink()
    line.coral("checkout", "deep.safetensors", cwd=below)
    assert_has(line, versions[3], "a/b/deep.safetensors")
    listed = line.coral("ls-files", "-l", "deep.safetensors", cwd=below)
    assert listed.endswith(" a/b/deep.safetensors")
    assert_healthy(line)


def test_a_sha256_repository(make_repo, versions, count_filters, assert_healthy):
    repo = make_repo(object_format="sha256")
    repo.commit("one", m__safetensors=versions[0])
    repo.commit("two", m__safetensors=versions[1])
    repo.git("checkout", "--quiet", "HEAD~")
    assert_has(repo, versions[0])
    assert count_filters(repo, "status") == 0
    assert_healthy(repo)


def test_a_submodule_has_a_store_of_its_own(make_repo, versions, at, assert_healthy):
    inner = make_repo("inner")
    inner.commit("one", m__safetensors=versions[0])
    outer = make_repo("outer")
    outer.git("submodule", "--quiet", "add", "../inner", "sub", code=None)
    module = at(outer.path / "sub")
    store = module.common_dir() / "coral"
    assert store == outer.path / ".git" / "modules" / "sub" / "coral"
    module.commit("two", m__safetensors=versions[1])
    module.commit("three", m__safetensors=versions[2])
    module.git("checkout", "--quiet", "HEAD~")
    assert_has(module, versions[1])
    outer.commit("with a submodule")
    assert outer.status() == ""
    assert_healthy(module, missing=True)


def test_a_sparse_checkout_writes_what_it_has(line, versions, assert_healthy):
    line.commit("deep", **{"in/a__safetensors": versions[3], "out/b__safetensors": versions[4]})
    line.git("sparse-checkout", "set", "in")
    assert not (line.path / "out").exists()
    assert_has(line, versions[3], "in/a.safetensors")
    assert line.coral("status", "out").splitlines()[0].endswith("left out by sparse checkout")
    line.git("sparse-checkout", "set", "out")
    assert_has(line, versions[4], "out/b.safetensors")
    line.git("sparse-checkout", "disable")
    assert_has(line, versions[3], "in/a.safetensors")
    assert_healthy(line)


def test_archive_holds_the_files(line, versions, assert_healthy):
    line.git("archive", "--output=../out.tar", "v1")
    folder = line.path.parent / "unpacked"
    folder.mkdir()
    line.git("-c", "alias.unpack=!tar xf ../out.tar -C ../unpacked", "unpack")
    assert (folder / "m.safetensors").read_bytes() == versions[1]
    assert line.run("cat-file", "--filters", "v0:m.safetensors").stdout == versions[0]
    assert_healthy(line)


def test_cleaning_everything_loses_only_the_link(line, versions, assert_healthy):
    assert os.path.islink(line.path / ".coral")
    line.git("clean", "--quiet", "-ffdx")
    assert not os.path.lexists(line.path / ".coral")
    line.git("checkout", "--quiet", "v0")
    assert_has(line, versions[0])
    assert_healthy(line)


def test_git_dir_and_work_tree_from_the_environment(line, versions, tmp_path, assert_healthy):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    places = [
        ({"GIT_DIR": str(line.path / ".git"), "GIT_WORK_TREE": str(line.path)}, elsewhere),
        ({"GIT_DIR": "repo/.git", "GIT_WORK_TREE": "repo"}, tmp_path),
    ]
    for number, (environment, folder) in enumerate(places):
        line.git("checkout", "--quiet", f"v{number}", env=environment, cwd=folder)
        assert_has(line, versions[number])
        line.write("m.safetensors", versions[4])
        line.git("add", "--all", env=environment, cwd=folder)
        line.git("reset", "--quiet", "--hard", env=environment, cwd=folder)
        (line.path / "m.safetensors").unlink()
        line.coral("checkout", "m.safetensors", env=environment, cwd=line.path if number == 0 else tmp_path)
        assert_has(line, versions[number])
        assert "unchanged" in line.coral("status", env=environment, cwd=folder)
    assert_healthy(line)


def test_a_work_tree_apart_from_its_git_dir(line, versions, tmp_path, assert_healthy):
    apart = tmp_path / "apart"
    apart.mkdir()
    environment = {"GIT_DIR": str(line.path / ".git"), "GIT_WORK_TREE": str(apart)}
    line.git("checkout", "--quiet", "--force", "v1", env=environment, cwd=apart)
    assert (apart / "m.safetensors").read_bytes() == versions[1]
    assert line.git("status", "--porcelain", "-uno", env=environment, cwd=apart) == ""
    assert_healthy(line)


def test_an_index_of_its_own(line, versions, tmp_path, assert_healthy):
    environment = {"GIT_INDEX_FILE": str(tmp_path / "other-index")}
    line.git("read-tree", "v0", env=environment)
    line.write("m.safetensors", versions[4])
    line.git("add", "m.safetensors", env=environment)
    assert line.blob(":m.safetensors") == line.blob("v2:m.safetensors")
    (line.path / "m.safetensors").unlink()
    line.coral("checkout", "m.safetensors", env=environment)
    assert line.read("m.safetensors") == versions[4]
    assert_healthy(line)


def test_a_hook_sees_the_files(line, versions, assert_healthy):
    hook = line.write(".git/hooks/post-checkout", b"#!/bin/sh\nsha256sum m.safetensors > ../seen\n")
    hook.chmod(0o755)
    line.git("checkout", "--quiet", "v0")
    assert_has(line, versions[0])
    expected = line.git("-c", "alias.sums=!sha256sum m.safetensors", "sums")
    assert (line.path.parent / "seen").read_text().strip() == expected
    assert_healthy(line)


def test_index_versions_and_the_untracked_cache(line, versions, count_filters, assert_healthy):
    for version in ("2", "3", "4"):
        line.git("update-index", "--index-version", version, "--untracked-cache", code=None)
        line.git("checkout", "--quiet", f"v{int(version) % 2}")
        assert_has(line, versions[int(version) % 2])
        assert count_filters(line, "status") == 0
    assert_healthy(line)


def test_a_split_index_still_works(line, versions, assert_healthy):
    line.git("update-index", "--split-index")
    line.git("checkout", "--quiet", "v0")
    assert_has(line, versions[0])
    line.git("update-index", "--no-split-index")
    assert_healthy(line)
