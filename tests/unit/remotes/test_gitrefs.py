"""Git remotes as remote stores: bare repositories reached by path, file:// and ssh, of both hashes."""

from __future__ import annotations

import hashlib
import random
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coral_git.errors import CoralError, GitError, IntegrityError, RemoteError
from coral_git.remotes.address import address_of_url
from coral_git.remotes.base import PackDownload
from coral_git.remotes.fetched import download_batches
from coral_git.remotes.gitpack import GitPackWriter, object_name
from coral_git.remotes.gitrefs import GitRefsRemote
from coral_git.remotes.publish import upload_batches
from coral_git.remotes.snapshot import PART_BYTES
from coral_git.types import PackId

from .conformance import RemoteConformance, make_upload
from .conftest import GitPlace, SshServer, git, make_bare, make_context


class TestFileUrl(RemoteConformance):
    """The place where every operation fails once."""

    packs_per_put = 1

    @pytest.fixture
    def place(self, bare: Path, user: Path) -> GitPlace:
        return GitPlace(bare, f"git+file://{bare}", user)

    @pytest.mark.parametrize("kill", [False, True])
    def test_put_fails_at_every_git_command(self, place: GitPlace, tmp_path: Path, kill: bool) -> None:
        """Among others between the push of the packs and that of the indexes."""
        self.fail_at_every_operation(place, tmp_path, kill, fsops_faults=False)

    def test_scratch_of_a_killed_process_goes(self, place: GitPlace, tmp_path: Path) -> None:
        upload = make_upload(tmp_path, 5)
        assert not self.put_with_fault(place, [upload], 3, kill=True, fsops_faults=False)
        assert len(place.left_behind()) == 1
        place.open().list_packs()
        assert place.left_behind() == []


class GitConformance(RemoteConformance):
    """The suite without its longest test: what fails, and when, does not depend on the way to the remote."""

    test_put_fails_at_every_write = None  # type: ignore[assignment]


class TestPath(GitConformance):
    @pytest.fixture(params=["sha1", "sha256"])
    def place(self, request: pytest.FixtureRequest, tmp_path: Path, user: Path) -> GitPlace:
        bare = make_bare(tmp_path / "a bare.git", request.param)
        return GitPlace(bare, f"git+{bare}", user)


class TestConfiguredRemote(GitConformance):
    """A remote of a repository that uses SHA-256, with refs among its branches."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> GitPlace:
        user = tmp_path / "user256"
        git("init", "--quiet", "--object-format=sha256", user)
        bare = make_bare(tmp_path / "bare256.git", "sha256")
        git("remote", "add", "origin", bare, cwd=user)
        return GitPlace(bare, "origin", user, "refs/heads/coral")


class TestSsh(GitConformance):
    @pytest.fixture
    def place(self, bare: Path, user: Path, ssh_server: SshServer) -> GitPlace:
        git("config", "core.sshCommand", ssh_server.command, cwd=user)
        return GitPlace(bare, f"git+{ssh_server.url(bare)}", user)

    # A connection takes up to half a second; these make many and do nothing that depends on the transport.
    test_put_again = None  # type: ignore[assignment]
    test_unknown_pack = None  # type: ignore[assignment]
    test_too_long_pack_is_refused = None  # type: ignore[assignment]
    test_existing_target_is_kept = None  # type: ignore[assignment]
    test_two_processes_put_overlapping = None  # type: ignore[assignment]


@pytest.fixture
def place(bare: Path, user: Path) -> GitPlace:
    return GitPlace(bare, f"git+{bare}", user)


COMMIT = """\
tree {tree}
author coral-git <coral-git@invalid> 1767225600 +0000
committer coral-git <coral-git@invalid> 1767225600 +0000

coral {kind} {name}
"""


@pytest.mark.parametrize(
    ("object_format", "pack_commit", "index_commit"),
    [
        ("sha1", "e383e6da955c61d2f28ef807f4a4e4780f72d632", "001b2b03f25aa520e989e3b73c943957aa4a2d58"),
        (
            "sha256",
            "74debac87c758603c09c9d6ba84c4d1a55902bd2d9eb2410da175cfc134dd91b",
            "e626b2f94bba6d69fc4b8f47e93fd64931a894b50135f65dae7daee47af03fd3",
        ),
    ],
)
def test_golden_commits(
    tmp_path: Path, user: Path, object_format: str, pack_commit: str, index_commit: str
) -> None:
    """The bytes and ids that docs/format/git-refs.md promises; they must never change."""
    data, index = b"a pack\n", b"an index\n"
    pack = PackId(hashlib.sha256(data).digest())
    (tmp_path / "pack").write_bytes(data)
    bare = make_bare(tmp_path / "golden.git", object_format)
    place = GitPlace(bare, f"git+{bare}", user)
    place.open().put(str(tmp_path / "pack"), index, pack)
    name = pack.hex()
    assert place.refs() == {
        f"refs/coral/store/pack/{name}": pack_commit,
        f"refs/coral/store/idx/{name}": index_commit,
    }
    for kind, content in (("pack", data), ("idx", index)):
        ref = f"refs/coral/store/{kind}/{name}"
        blob = git("hash-object", "--stdin", cwd=bare, data=content)
        assert git("ls-tree", ref, cwd=bare) == f"100644 blob {blob}\t000000"
        tree = git("rev-parse", f"{ref}^{{tree}}", cwd=bare)
        commit = subprocess.check_output(["git", "cat-file", "commit", ref], cwd=bare).decode()
        assert commit == COMMIT.format(tree=tree, kind=kind, name=name)


def test_long_pack_with_equal_parts(place: GitPlace, tmp_path: Path) -> None:
    """Parts are numbered, and equal ones are one blob; the host keeps a long push as it comes."""
    data = (
        bytes(PART_BYTES) * 3
        + bytes(range(256)) * (PART_BYTES // 256)
        + random.Random(1).randbytes(100 * PART_BYTES + 1)
    )
    pack = PackId(hashlib.sha256(data).digest())
    (tmp_path / "pack").write_bytes(data)
    place.open().put(str(tmp_path / "pack"), b"", pack)
    names = git("ls-tree", "--name-only", f"refs/coral/store/pack/{pack.hex()}", cwd=place.path).splitlines()
    assert names == [f"{number:06}" for number in range(105)]
    count, *rest = git("count-objects", "-v", cwd=place.path).splitlines()
    assert count == "count: 2"  # those of the index, which is pushed alone
    assert "in-pack: 105" in rest
    place.open().get_pack(pack, str(tmp_path / "incoming"))
    assert (tmp_path / "incoming").read_bytes() == data
    assert place.open().get_index(pack) == b""


@given(
    st.lists(st.binary(max_size=70_000), max_size=5),
    st.sampled_from(["sha1", "sha256"]),
)
@settings(max_examples=15, deadline=None)
def test_git_reads_what_the_pack_writer_wrote(objects: list[bytes], object_format: str) -> None:
    with TemporaryDirectory() as folder:
        bare = make_bare(Path(folder) / "x.git", object_format)
        wanted = {object_name("blob", data, object_format): data for data in objects}
        path = bare / "objects" / "pack" / "pack-x.pack"
        with GitPackWriter(str(path), len(wanted), object_format) as writer:
            for data in wanted.values():
                writer.add("blob", data)
        git("index-pack", path, cwd=bare)
        for name, data in wanted.items():
            assert subprocess.check_output(["git", "cat-file", "blob", name], cwd=bare) == data


def test_remote_passes_fsck(place: GitPlace, tmp_path: Path) -> None:
    place.open().put_many([make_upload(tmp_path, seed) for seed in range(3)])
    assert git("fsck", "--full", "--strict", cwd=place.path) == ""


def test_clone_does_not_bring_packs(place: GitPlace, tmp_path: Path) -> None:
    place.open().put_many([make_upload(tmp_path, 1)])
    git("clone", "--quiet", place.path, tmp_path / "clone")
    assert git("for-each-ref", cwd=tmp_path / "clone") == ""


def test_user_repository_stays_as_it_is(place: GitPlace, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in (place.user / ".git").rglob("*") if path.is_file()}
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    place.open().get_pack(upload.pack, str(tmp_path / "incoming"))
    assert {path: path.read_bytes() for path in (place.user / ".git").rglob("*") if path.is_file()} == before


def test_environment_of_a_hook_is_dropped(
    place: GitPlace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quarantine = place.user / ".git" / "objects" / "incoming"
    quarantine.mkdir()
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(quarantine))
    monkeypatch.setenv("GIT_QUARANTINE_PATH", str(quarantine))
    monkeypatch.setenv("GIT_ALTERNATE_OBJECT_DIRECTORIES", str(place.user / ".git" / "objects"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(place.user / ".git" / "index.next"))
    monkeypatch.setenv("GIT_NAMESPACE", "elsewhere")
    monkeypatch.setenv("GIT_PREFIX", "deep/")
    monkeypatch.setenv("GIT_DIR", str(place.user / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(place.user))
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    monkeypatch.undo()
    assert len(place.refs()) == 2
    assert list(quarantine.iterdir()) == []


def test_command_line_configuration_survives(bare: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``git -c`` hands to a hook, by either of its variables."""
    place = GitPlace(bare, "git+mine:bare.git", user)
    with pytest.raises(RemoteError):
        place.open().list_packs()
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", f"'url.{bare.parent}/.insteadof'='mine:'")
    assert place.open().list_packs() == set()
    monkeypatch.delenv("GIT_CONFIG_PARAMETERS")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{bare.parent}/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "mine:")
    assert place.open().list_packs() == set()


def test_repository_configuration_applies_once(tmp_path: Path, user: Path) -> None:
    """``insteadOf`` of the repository is applied, and not to its own result."""
    bare = make_bare(tmp_path / "real" / "real" / "x.git")
    git("config", f"url.{tmp_path}/real/real/.insteadOf", f"{tmp_path}/real/", cwd=user)
    git("remote", "add", "origin", f"{tmp_path}/real/x.git", cwd=user)
    upload = make_upload(tmp_path, 1)
    place = GitPlace(bare, "origin", user)
    place.open().put_many([upload])
    assert len(place.refs()) == 2


def test_push_urls(tmp_path: Path, user: Path) -> None:
    """Packs go to every push URL and are read from the first URL."""
    bares = [make_bare(tmp_path / f"{number}.git") for number in range(3)]
    git("remote", "add", "origin", bares[0], cwd=user)
    for bare in bares:
        git("remote", "set-url", "--add", "--push", "origin", bare, cwd=user)
    upload = make_upload(tmp_path, 1)
    GitPlace(bares[0], "origin", user).open().put_many([upload])
    for bare in bares:
        assert len(GitPlace(bare, "origin", user).refs()) == 2
    assert GitPlace(bares[0], "origin", user).open().list_packs() == {upload.pack}


def test_relative_url(tmp_path: Path, bare: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git("config", "remote.origin.url", "../bare.git", cwd=user)
    (user / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(user / "deep" / "er")
    place = GitPlace(bare, "origin", user)
    place.open().put_many([make_upload(tmp_path, 1)])
    assert len(place.refs()) == 2


def test_partial_clone_with_submodule_settings(place: GitPlace, tmp_path: Path) -> None:
    """Settings of a repository that would mislead a scratch repository have no effect there."""
    for key, value in (
        ("core.worktree", str(tmp_path)),
        ("core.hooksPath", str(tmp_path / "hooks")),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialclonefilter", "blob:none"),
        ("remote.origin.url", "/nowhere"),
        ("fetch.prune", "true"),
        ("push.followTags", "true"),
        ("push.recurseSubmodules", "check"),
        ("i18n.commitEncoding", "latin1"),
        ("core.autocrlf", "true"),
    ):
        git("--git-dir", place.user / ".git", "config", key, value, cwd=tmp_path)
    hook = tmp_path / "hooks" / "reference-transaction"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    place.open().get_pack(upload.pack, str(tmp_path / "incoming"))


def test_existing_ref_with_other_content_is_not_replaced(place: GitPlace, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    place.damage(upload.pack)
    before = place.refs()
    with pytest.raises(IntegrityError, match="holds something else"):
        place.open().put_many([upload, make_upload(tmp_path, 2)])
    assert {ref: place.refs()[ref] for ref in before} == before


def test_ref_without_parts(place: GitPlace, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    blob = git("hash-object", "-w", "--stdin", cwd=place.path)
    tree = git("mktree", cwd=place.path, data=f"100644 blob {blob}\tREADME\n".encode())
    commit = git("-c", "user.name=a", "-c", "user.email=a", "commit-tree", "-m", "x", tree, cwd=place.path)
    git("update-ref", f"refs/coral/store/pack/{upload.pack.hex()}", commit, cwd=place.path)
    with pytest.raises(IntegrityError, match="numbered parts"):
        place.open().get_pack(upload.pack, str(tmp_path / "incoming"))


def test_pack_or_index_alone_is_not_listed(place: GitPlace, tmp_path: Path) -> None:
    uploads = [make_upload(tmp_path, seed) for seed in range(3)]
    place.open().put_many(uploads)
    git("update-ref", "-d", f"refs/coral/store/idx/{uploads[0].pack.hex()}", cwd=place.path)
    git("update-ref", "-d", f"refs/coral/store/pack/{uploads[1].pack.hex()}", cwd=place.path)
    assert place.open().list_packs() == {uploads[2].pack}
    place.open().put_many(uploads)
    assert len(place.open().list_packs()) == 3


def test_foreign_refs_are_ignored(place: GitPlace, tmp_path: Path) -> None:
    upload = make_upload(tmp_path, 1)
    place.open().put_many([upload])
    commit = place.refs()[f"refs/coral/store/pack/{upload.pack.hex()}"]
    other = "ab" * 32
    for ref in (
        "refs/heads/main",
        f"refs/heads/refs/coral/store/pack/{other}",
        f"refs/heads/refs/coral/store/idx/{other}",
        "refs/coral/store/pack/short",
        "refs/coral/store/idx/short",
    ):
        git("update-ref", ref, commit, cwd=place.path)
    assert place.open().list_packs() == {upload.pack}


def test_refused_by_the_host(place: GitPlace, tmp_path: Path) -> None:
    """The remote's own words reach the user, without the power over the terminal."""
    git("config", "receive.hideRefs", "refs/coral", cwd=place.path)
    with pytest.raises(RemoteError, match="hidden ref") as caught:
        place.open().put_many([make_upload(tmp_path, 1)])
    assert "coral.refPrefix" in caught.value.hint
    hook = place.path / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nprintf 'no \\033]0;title\\007 way\\n' >&2\nexit 1\n")
    hook.chmod(0o755)
    git("config", "--unset", "receive.hideRefs", cwd=place.path)
    with pytest.raises(RemoteError, match="way") as caught:
        place.open().put_many([make_upload(tmp_path, 1)])
    assert caught.value.message.isprintable()
    assert place.left_behind() == []


def test_host_that_drops_refs_silently(place: GitPlace, tmp_path: Path) -> None:
    """What git reports is not believed: the remote is asked."""
    hook = place.path / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text('#!/bin/sh\nwhile read -r _ _ ref; do git update-ref -d "$ref"; done\n')
    hook.chmod(0o755)
    with pytest.raises(RemoteError, match="does not show"):
        place.open().put_many([make_upload(tmp_path, 1)])


def test_unreachable(user: Path, tmp_path: Path) -> None:
    place = GitPlace(tmp_path, "git+file:///nowhere/at-all.git", user)
    for action in (place.open().list_packs, lambda: place.open().put_many([make_upload(tmp_path, 1)])):
        with pytest.raises(RemoteError, match="nowhere"):
            action()
    assert place.left_behind() == []


def test_download_batches() -> None:
    mib = 1 << 20

    def lengths(*given: int) -> list[list[int]]:
        downloads = [PackDownload(PackId(bytes(32)), "", length) for length in given]
        return [[download.length for download in batch] for batch in download_batches(downloads)]

    assert lengths() == []
    assert lengths(0, 0) == [[0], [0]]
    assert lengths(mib, 48 * mib, 2 * mib, 0, 8 * mib) == [[48 * mib], [0], [mib, 2 * mib], [8 * mib]]


def test_batches(bare: Path, user: Path, tmp_path: Path) -> None:
    """Several pushes and fetches, and those that were complete before a failure stay."""
    uploads = [make_upload(tmp_path, seed, 3000) for seed in range(5)]
    assert [len(batch) for batch in upload_batches(uploads, 7000)] == [2, 2, 1]
    pushes: list[tuple[str, ...]] = []

    def third_push_fails(args: tuple[str, ...]) -> None:
        if args[0] == "push":
            pushes.append(args)
        if len(pushes) == 3:
            raise GitError("the cable was cut")

    address = address_of_url(str(bare))
    remote = GitRefsRemote(address, make_context(user, before=third_push_fails), transfer_bytes=7000)
    with pytest.raises(CoralError, match="cable"):
        remote.put_many(uploads)
    remote = GitRefsRemote(address, make_context(user), transfer_bytes=7000)
    assert remote.list_packs() == {upload.pack for upload in uploads[:2]}
    remote.put_many(uploads)
    assert remote.list_packs() == {upload.pack for upload in uploads}
