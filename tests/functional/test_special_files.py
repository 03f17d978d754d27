"""Files that are not what a model usually is: odd content, odd names, odd moments."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess

import pytest

from coral_git import fsops
from coral_git.errors import CoralError
from coral_git.manifest.parse import parse
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

NOISE = random.Random(7).randbytes(3 << 20)
NAMES = [
    b"with space.bin",
    b"line\nfeed.bin",
    b"byte-\xff\xfe.bin",
    b"-leading.bin",
    b"'quote\".bin",
    b"\xc3\xa9.bin",
]
LYING = [
    (1 << 40).to_bytes(8, "little") + b"{}",
    (16).to_bytes(8, "little") + b'{"a":{"dtype":"F',
    (0).to_bytes(8, "little"),
    (64).to_bytes(8, "little")
    + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(64)
    + b"short",
    (100).to_bytes(8, "little") + (b"[" * 100),
]


def restored(repo, name: bytes) -> bytes:
    """A file after it was deleted and checked out again."""
    (repo.path / os.fsdecode(name)).unlink()
    repo.git("checkout", "--", b":(literal)" + name)
    return repo.read(name)


@pytest.mark.parametrize("data", [b"", b"x", b"\n", *LYING], ids=len)
def test_odd_content(repo, data, assert_healthy):
    repo.commit("odd", odd__safetensors=data)
    assert restored(repo, b"odd.safetensors") == data
    assert repo.status() == ""
    assert_healthy(repo)


def test_a_change_inside_an_opaque_file_stores_the_chunks_around_it(repo, assert_healthy):
    changed = NOISE[: 1 << 20] + b"inserted" + NOISE[1 << 20 :]
    repo.commit("one", w__bin=NOISE)
    repo.commit("two", w__bin=changed)
    old, new = repo.objects("HEAD~:w.bin"), repo.objects("HEAD:w.bin")
    assert len(old) > 4
    assert len(new - old) <= 2
    assert restored(repo, b"w.bin") == changed
    assert_healthy(repo)


def test_a_change_in_place_makes_a_chunk_delta(repo, assert_healthy):
    changed = NOISE[: 1 << 20] + b"changed!" + NOISE[(1 << 20) + 8 :]
    repo.commit("one", w__bin=NOISE)
    repo.commit("two", w__bin=changed)
    (fresh,) = repo.objects("HEAD:w.bin") - repo.objects("HEAD~:w.bin")
    with repo.store() as store:
        place = store.locate(ObjectId(fresh))
    assert place.base is not None
    assert place.entry_length < place.raw_length / 10
    assert restored(repo, b"w.bin") == changed
    assert_healthy(repo)


def test_file_names(repo, assert_healthy):
    for number, name in enumerate(NAMES):
        repo.write(name, NOISE[: 1000 + number])
    repo.commit("names")
    for name in NAMES:
        (repo.path / os.fsdecode(name)).unlink()
    repo.git("checkout", "--", ".")
    for number, name in enumerate(NAMES):
        assert repo.read(name) == NOISE[: 1000 + number]
        (repo.path / os.fsdecode(name)).unlink()
    repo.run("coral", "checkout", "--", ".")
    for number, name in enumerate(NAMES):
        assert repo.read(name) == NOISE[: 1000 + number]
    assert repo.status() == ""
    assert len(repo.coral("ls-files").splitlines()) == len(NAMES)
    repo.coral("status")
    assert_healthy(repo)


def test_the_executable_bit_is_kept(repo, assert_healthy):
    path = repo.write("tool.bin", NOISE[:5000])
    path.chmod(0o755)
    repo.commit("one")
    repo.commit("two", tool__bin=NOISE[:6000])
    repo.git("checkout", "--quiet", "HEAD~")
    assert path.stat().st_mode & stat.S_IXUSR
    for restore in (["checkout", "--", "tool.bin"], ["coral", "checkout", "tool.bin"]):
        path.unlink()
        repo.git(*restore)
        assert path.stat().st_mode & stat.S_IXUSR
        assert path.read_bytes() == NOISE[:5000]
    assert repo.status() == ""
    assert_healthy(repo)


def test_symbolic_links_are_not_filtered(repo, assert_healthy):
    (repo.path / "link.bin").symlink_to("w.bin")
    repo.commit("one", w__bin=NOISE[:500])
    assert repo.blob("HEAD:link.bin") == b"w.bin"
    (repo.path / "link.bin").unlink()
    repo.git("checkout", "--", ".")
    assert os.readlink(repo.path / "link.bin") == "w.bin"
    assert repo.coral("ls-files").endswith(" w.bin")
    assert_healthy(repo)


def test_a_link_at_the_place_of_a_file_is_replaced_not_followed(repo, tmp_path, assert_healthy):
    repo.commit("one", w__bin=NOISE[:500])
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (repo.path / "w.bin").unlink()
    (repo.path / "w.bin").symlink_to(victim)
    repo.coral("checkout", "w.bin")
    assert victim.read_bytes() == b"precious"
    assert not (repo.path / "w.bin").is_symlink()
    assert repo.read("w.bin") == NOISE[:500]
    assert_healthy(repo)


def test_a_folder_that_became_a_link_is_not_written_through(repo, tmp_path, assert_healthy):
    repo.commit("one", **{"in/w__bin": NOISE[:500]})
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo.path / "in" / "w.bin").unlink()
    (repo.path / "in").rmdir()
    (repo.path / "in").symlink_to(outside)
    said = repo.run("coral", "checkout", ":/in/w.bin", code=None)
    assert said.returncode != 0
    assert not list(outside.iterdir())
    assert_healthy(repo)


def test_hard_links_to_a_file_keep_their_content(repo, tmp_path, assert_healthy):
    repo.commit("one", w__bin=NOISE[:500])
    os.link(repo.path / "w.bin", tmp_path / "kept")
    repo.commit("two", w__bin=NOISE[:600])
    os.unlink(tmp_path / "kept")
    os.link(repo.path / "w.bin", tmp_path / "kept")
    repo.git("checkout", "--quiet", "HEAD~")
    assert (tmp_path / "kept").read_bytes() == NOISE[:600]
    assert_healthy(repo)


@pytest.fixture
def workspace(repo, monkeypatch):
    """The repository as the filter sees it, from the root of the work tree."""
    monkeypatch.chdir(repo.path)
    opened = Workspace.open()
    yield opened
    opened.close()
    fsops.set_fault_hook(None)


def test_a_file_that_changes_while_git_reads_it_is_refused(repo, workspace, age, assert_healthy):
    path = repo.write("w.bin", NOISE)
    age(path)

    def content():
        yield NOISE[:500_000]
        path.write_bytes(b"something else" + NOISE[14:])
        yield NOISE[500_000:]

    with pytest.raises(CoralError, match="changed while it was read"):
        clean_content(workspace, b"w.bin", content())
    assert repo.packs() == []
    assert_healthy(repo)


def test_a_file_that_changes_while_it_is_stored_is_refused(repo, workspace, age, assert_healthy):
    path = repo.write("w.bin", NOISE)
    age(path)
    assert workspace.store.packs() == []

    def change(name, _):
        if name == "write":
            with path.open("r+b") as file:
                file.write(b"something else")

    fsops.set_fault_hook(change)
    with pytest.raises(CoralError, match="changed while it was read"):
        clean_content(workspace, b"w.bin", [NOISE])
    fsops.set_fault_hook(None)
    assert repo.packs() == []
    assert_healthy(repo)


def test_what_git_sends_counts_not_what_the_file_has_now(repo, workspace, assert_healthy):
    repo.write("w.bin", b"newer")
    text = clean_content(workspace, b"w.bin", [NOISE[:1000], NOISE[1000:2000]])
    assert parse(text, workspace.limits).size == 2000
    done = repo.run("hash-object", "-w", "--stdin", "--path", "w.bin", data=NOISE[:2000])
    assert repo.blob(done.stdout.decode().strip()) == text
    assert_healthy(repo)


def test_a_read_only_store_still_checks_out(repo, assert_healthy):
    repo.commit("one", w__bin=NOISE[:500])
    repo.commit("two", w__bin=NOISE[:600])
    store = repo.path / ".git" / "coral"
    (store / "cache.sqlite").unlink()
    before = {path: path.stat().st_mode for path in [store, *store.rglob("*")]}
    try:
        for path, mode in before.items():
            path.chmod(mode & ~0o222)
        done = without_privileges(repo, "git", "checkout", "--quiet", "HEAD~")
        assert done.returncode == 0, done.stderr
        assert repo.read("w.bin") == NOISE[:500]
        repo.write("w.bin", NOISE[:700])
        done = without_privileges(repo, "git", "add", "w.bin")
        assert done.returncode != 0
        assert b"permission denied" in done.stderr
    finally:
        for path, mode in before.items():
            path.chmod(mode)
    repo.git("reset", "--quiet", "--hard")
    assert_healthy(repo)


def without_privileges(repo, *command: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command to which file permissions apply, even when root runs the tests."""
    if os.getuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root writes where nobody may")
        command = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner", *command)
    return subprocess.run(command, cwd=repo.path, capture_output=True, check=False)
