"""Pushing: objects before refs, only what the remote lacks, nothing private, and again after a failure."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from coral_git.store.pack_index import decode_index
from coral_git.types import PackId

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))
PACKS = "refs/coral/store/pack/"
INDEXES = "refs/coral/store/idx/"


def stored_file(bare, ref: str) -> bytes:
    """The file that a ref of a git remote holds: the parts in its tree, back to back."""
    parts = bare.git("ls-tree", "--format=%(objectname)", ref).split()
    return b"".join(map(bare.blob, parts))


def remote_packs(bare) -> dict[str, int]:
    """The packs of a git remote, with their lengths."""
    refs = bare.git("for-each-ref", "--format=%(refname)", PACKS).split()
    ids = [ref.removeprefix(PACKS) for ref in refs]
    return {one: len(stored_file(bare, PACKS + one)) for one in ids}


def remote_entries(bare) -> list:
    """The entries of all packs of a git remote, from their indexes."""
    entries = []
    for one in remote_packs(bare):
        entries += decode_index(stored_file(bare, INDEXES + one), PackId(bytes.fromhex(one)))
    return entries


def leftovers(repo) -> list[str]:
    """What an unfinished transfer would leave in the store."""
    root = repo.common_dir() / "coral"
    return [name for name in os.listdir(root) if name.startswith(("outgoing", "tmp"))] + os.listdir(
        root / "objects" / "incoming"
    )


def assert_versions(clone, versions: dict[str, bytes], name: str = "m.safetensors") -> None:
    """Check out commits one by one and compare a file."""
    for commit, data in versions.items():
        clone.git("checkout", "--quiet", commit)
        assert clone.read(name) == data
    assert clone.status() == ""


@pytest.fixture
def bare(make_repo):
    return make_repo("bare.git", bare=True)


@pytest.fixture
def work(make_repo, bare):
    """A repository with ``origin``, and its pre-push hook."""
    repo = make_repo("work")
    repo.git("remote", "add", "origin", bare.path)
    repo.coral("init")
    return repo


@pytest.fixture
def clone_of(tmp_path, at):
    def clone(url, name: str = "clone", *options: str):
        subprocess.run(
            ["git", "clone", "-q", *options, url, tmp_path / name], check=True, capture_output=True
        )
        return at(tmp_path / name)

    return clone


@pytest.fixture
def versions(work, model, tune, safetensors) -> dict[str, bytes]:
    """Three commits of a model: commit → bytes."""
    tensors = model(0)
    found = {}
    for step in range(3):
        data = safetensors(tensors)
        found[work.commit(f"v{step}", m__safetensors=data)] = data
        tensors = tune(tensors, step)
    return found


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory):
    """An ssh server on this host, for this user, with keys of its own: (url of a path, ssh command)."""
    if SSHD is None:
        pytest.skip("sshd is not installed")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\n"
    )
    with subprocess.Popen([SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        while b"Server listening" not in (line := server.stderr.readline()):
            assert line
        threading.Thread(target=server.stderr.read, daemon=True).start()
        user = pwd.getpwuid(os.getuid()).pw_name
        command = (
            f"ssh -F none -i {folder}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={folder}/known -o LogLevel=ERROR -o BatchMode=yes"
        )
        yield lambda path: f"ssh://{user}@127.0.0.1:{port}{path}", command
        server.terminate()


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_push_and_clone_restore_every_version(
    make_repo, clone_of, model, tune, safetensors, assert_healthy, object_format
):
    bare = make_repo("bare.git", bare=True, object_format=object_format)
    work = make_repo("work", object_format=object_format)
    work.git("remote", "add", "origin", bare.path)
    tensors, found = model(0), {}
    for step in range(3):
        data = safetensors(tensors)
        found[work.commit(m__safetensors=data)] = data
        tensors = tune(tensors, step)
    work.git("tag", "-a", "v1", "-m", "v1")
    work.git("push", "-q", "origin", "main", "v1")
    assert leftovers(work) == []
    clone = clone_of(bare.path)
    assert clone.read("m.safetensors") == data
    assert_versions(clone, found)
    clone.coral("fetch", "--all")
    assert_healthy(clone)
    assert_healthy(work)


def test_push_over_ssh(ssh_server, work, bare, versions, clone_of, monkeypatch, assert_healthy):
    url, command = ssh_server
    monkeypatch.setenv("GIT_SSH_COMMAND", command)
    work.git("remote", "set-url", "origin", url(bare.path))
    said = work.run("coral", "push", "-u", "origin", "main").stderr.decode()
    assert "sent" in said
    clone = clone_of(url(bare.path))
    assert_versions(clone, versions)
    assert_healthy(work)


def test_only_what_the_remote_lacks_is_sent(work, bare, versions, model, tune, safetensors, assert_healthy):
    work.git("push", "-q", "origin", "main")
    first = remote_packs(bare)
    assert work.run("push", "-q", "origin", "main").stderr == b""
    tensors = tune(model(9), 3)
    base = work.read("m.safetensors")
    work.commit(other__safetensors=safetensors(tensors), copy__safetensors=base)
    work.git("push", "-q", "origin", "main")
    second = {pack: size for pack, size in remote_packs(bare).items() if pack not in first}
    assert len(second) == 1
    assert sum(second.values()) < 1.2 * len(safetensors(tensors))
    ids = [entry.object_id for entry in remote_entries(bare)]
    assert len(ids) == len(set(ids))
    assert_healthy(work)


def test_nothing_to_do_is_silent_and_asks_nobody(work, bare, tmp_path):
    work.write("README", b"no weights\n")
    (work.path / ".gitattributes").unlink()
    work.commit()
    trace = tmp_path / "trace"
    lines = f"refs/heads/main {work.git('rev-parse', 'HEAD')} refs/heads/main {'0' * 40}\n"
    done = work.run(
        "coral", "hook", "pre-push", "origin", "/nowhere", data=lines.encode(), env={"GIT_TRACE2": str(trace)}
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    assert trace.read_text().count(" start ") <= 7
    gone = f"(delete) {'0' * 40} refs/heads/main {'1' * 40}\n"
    assert work.run("coral", "hook", "pre-push", "origin", "/nowhere", data=gone.encode()).stderr == b""


def test_a_refused_push_is_tried_again(work, bare, versions, clone_of, assert_healthy):
    """The remote takes the packs and refuses the first index, as after a connection that broke in between."""
    hook = bare.path / "hooks" / "update"
    hook.write_text('#!/bin/sh\ncase "$1" in refs/coral/store/idx/*) exit 1;; esac\n')
    hook.chmod(0o755)
    said = work.run("push", "origin", "main", code=None)
    assert said.returncode != 0
    assert b"refused" in said.stderr
    assert bare.git("for-each-ref", "refs/heads") == ""
    packs = remote_packs(bare)
    assert packs
    assert leftovers(work) == []
    hook.unlink()
    work.git("push", "-q", "origin", "main")
    assert remote_packs(bare) == packs
    clone = clone_of(bare.path)
    assert_versions(clone, versions)
    assert_healthy(clone)


def test_a_push_goes_on_after_the_batch_that_arrived(work, bare, versions, clone_of, assert_healthy):
    """Each batch is complete in itself: what arrived before the failure is not sent again."""
    script = (
        "import sys\n"
        "from coral_git.pipeline import push\n"
        "from coral_git.pipeline.workspace import Workspace\n"
        "from coral_git.pipeline.history import named_in_history\n"
        "from coral_git.pipeline.stores import stores_for_push\n"
        "from coral_git.pipeline.inventory import Inventory\n"
        "from coral_git.errors import RemoteError\n"
        "workspace = Workspace.open('.')\n"
        "store = stores_for_push(workspace, 'origin')[0]\n"
        "def stop(done, total):\n"
        "    raise RemoteError('cut')\n"
        "named = named_in_history(workspace, ['HEAD'])\n"
        "try:\n"
        "    inventory = Inventory(workspace, store)\n"
        "    push.push_objects(workspace, inventory, named, progress=stop, batch_bytes=60_000)\n"
        "except RemoteError as error:\n"
        "    print(error)\n"
    )
    python = sys.executable
    done = subprocess.run([python, "-c", script], cwd=work.path, capture_output=True, text=True)
    assert done.stdout == "cut\n", done.stderr
    first = remote_packs(bare)
    assert len(first) == 1
    work.git("push", "-q", "origin", "main")
    assert first.keys() < remote_packs(bare).keys()
    ids = [entry.object_id for entry in remote_entries(bare)]
    assert len(ids) == len(set(ids))
    clone = clone_of(bare.path)
    assert_versions(clone, versions)
    assert_healthy(clone)


def test_two_push_at_once(work, bare, versions, clone_of, tune, model, safetensors, assert_healthy):
    work.git("push", "-q", "origin", "main")
    clones = [clone_of(bare.path, f"clone{number}") for number in range(2)]
    found = {}
    for number, clone in enumerate(clones):
        clone.git("switch", "-q", "-c", f"topic{number}")
        same = safetensors(tune(model(0), 77))
        own = safetensors(tune(model(0), number))
        found[f"topic{number}"] = own
        clone.commit(m__safetensors=own, same__safetensors=same)
    running = [
        subprocess.Popen(
            ["git", "push", "-q", "origin", f"topic{number}"], cwd=clone.path, stderr=subprocess.PIPE
        )
        for number, clone in enumerate(clones)
    ]
    for process in running:
        _, said = process.communicate()
        assert process.returncode == 0, said.decode()
    check = clone_of(bare.path, "check")
    for branch, data in found.items():
        check.git("checkout", "-q", branch)
        assert check.read("m.safetensors") == data
        assert check.read("same.safetensors") == same
    assert_healthy(check)


@pytest.mark.parametrize("public", [False, True])
def test_a_private_base_never_leaves(work, bare, clone_of, model, tune, safetensors, assert_healthy, public):
    """A branch whose file is a delta against a version of another branch goes without that version."""
    start = model(1)
    work.commit(m__safetensors=safetensors(start))
    if public:
        work.git("push", "-q", "origin", "main")
    work.git("switch", "-q", "-c", "secret")
    secret = tune(start, 1)
    work.commit(m__safetensors=safetensors(secret))
    private = work.objects("HEAD:m.safetensors") - work.objects("main:m.safetensors")
    work.git("switch", "-q", "--orphan", "public") if not public else work.git("switch", "-q", "main")
    final = safetensors(tune(secret, 2))
    work.git("checkout", "-q", "secret", "--", ".")
    work.commit(m__safetensors=final)
    with work.store() as store:
        bases = {store.locate(one).base for one in work.objects("HEAD:m.safetensors")}
    assert bases & private, "the test needs deltas against the private version"
    work.git("push", "-q", "origin", "HEAD")
    for entry in remote_entries(bare):
        assert entry.object_id not in private
        assert entry.base not in private
    if public:
        shared = work.objects("main~1:m.safetensors")
        assert any(entry.base in shared for entry in remote_entries(bare)), "a public base serves instead"
    clone = clone_of(bare.path, "clone", "-b", work.git("branch", "--show-current"))
    assert clone.read("m.safetensors") == final
    assert_healthy(clone)


def test_a_missing_object_is_refused_by_name(work, bare, model, safetensors):
    work.commit(m__safetensors=safetensors(model(2)))
    shutil.rmtree(work.common_dir() / "coral" / "objects" / "packs")
    (work.common_dir() / "coral" / "cache.sqlite").unlink()
    done = work.run("push", "origin", "main", code=None)
    assert done.returncode != 0
    assert b"m.safetensors: tensor 'embed.weight'" in done.stderr
    assert b"hint:" in done.stderr
    assert bare.git("for-each-ref") == ""
    assert leftovers(work) == []
    assert b"tensor 'embed.weight'" in work.run("coral", "push", "origin", "main", code=12).stderr


def test_push_from_everywhere(work, bare, versions, tmp_path, at, clone_of, tune, model, safetensors):
    """A sub-folder, a linked work tree, a bare repository."""
    (work.path / "sub" / "deep").mkdir(parents=True)
    work.git("push", "-q", "origin", "main", cwd=work.path / "sub" / "deep")
    assert remote_packs(bare)
    work.git("worktree", "add", "-q", "-b", "linked", tmp_path / "linked")
    linked = at(tmp_path / "linked")
    data = safetensors(tune(model(0), 50))
    linked.commit(m__safetensors=data)
    linked.coral("push", "-q", "origin", "linked")
    assert clone_of(bare.path, "one", "-b", "linked").read("m.safetensors") == data

    other = at(tmp_path / "other.git")
    subprocess.run(["git", "init", "-q", "--bare", other.path], check=True)
    bare.coral("fetch", "-q", work.path, "linked")
    bare.coral("push", "-q", other.path, "linked")
    assert clone_of(other.path, "two", "-b", "linked").read("m.safetensors") == data


def test_a_remote_made_anew_gets_everything(work, bare, versions, clone_of, assert_healthy):
    work.git("push", "-q", "origin", "main")
    shutil.rmtree(bare.path)
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", bare.path], check=True)
    work.coral("push", "-q", "origin", "main")
    clone = clone_of(bare.path)
    assert_versions(clone, versions)
    assert_healthy(clone)


def test_a_pack_that_vanished_is_sent_again(work, bare, versions, clone_of, safetensors, model):
    """What was proven once is not believed when the remote does not list it any more."""
    work.git("push", "-q", "origin", "main")
    packs = remote_packs(bare)
    for pack in packs:
        bare.git("update-ref", "-d", INDEXES + pack)
    work.commit(other__bin=b"another file")
    work.git("push", "-q", "origin", "main")
    assert packs.keys() < remote_packs(bare).keys()
    assert_versions(clone_of(bare.path), versions)


def test_coral_push_repairs_a_push_without_hook(work, bare, versions, clone_of):
    work.git("push", "-q", "--no-verify", "origin", "main")
    assert remote_packs(bare) == {}
    said = work.run("coral", "push", "--dry-run", "origin", "main").stderr.decode()
    assert "would send" in said
    assert remote_packs(bare) == {}
    work.coral("push", "origin", "main")
    assert_versions(clone_of(bare.path), versions)


def test_a_shallow_clone_pushes(work, bare, versions, clone_of, tune, model, safetensors, assert_healthy):
    work.git("push", "-q", "origin", "main")
    shallow = clone_of(f"file://{bare.path}", "shallow", "--depth", "1")
    data = safetensors(tune(model(0), 60))
    shallow.commit(m__safetensors=data)
    shallow.git("push", "-q", "origin", "main")
    clone = clone_of(bare.path)
    assert clone.read("m.safetensors") == data
    clone.coral("fetch", "--all")
    assert_healthy(clone)


def test_a_partial_clone_pushes_without_fetching_history(
    work, bare, versions, clone_of, tune, model, safetensors
):
    work.git("push", "-q", "origin", "main")
    bare.git("config", "uploadpack.allowFilter", "true")
    partial = clone_of(f"file://{bare.path}", "partial", "--filter=blob:none")
    data = safetensors(tune(model(0), 61))
    partial.commit(m__safetensors=data)
    absent = partial.git("rev-list", "--objects", "--all", "--missing=print").count("?")
    assert absent
    partial.git("push", "-q", "origin", "main")
    assert partial.git("rev-list", "--objects", "--all", "--missing=print").count("?") == absent
    assert clone_of(bare.path).read("m.safetensors") == data


def test_a_merge_on_the_hosting_side(work, bare, clone_of, model, tune, safetensors, assert_healthy):
    """Neither hook nor driver runs there; both parents' objects are on the remote already."""
    start = model(3)
    work.commit(a__safetensors=safetensors(start), b__safetensors=safetensors(model(4)))
    work.git("switch", "-q", "-c", "topic")
    a = safetensors(tune(start, 1))
    work.commit(a__safetensors=a)
    work.git("switch", "-q", "main")
    b = safetensors(tune(model(4), 1))
    work.commit(b__safetensors=b)
    work.git("push", "-q", "origin", "main", "topic")
    tree = bare.git("merge-tree", "--write-tree", "main", "topic")
    merged = bare.git("commit-tree", tree, "-p", "main", "-p", "topic", "-m", "merged")
    bare.git("update-ref", "refs/heads/main", merged)
    clone = clone_of(bare.path)
    assert (clone.read("a.safetensors"), clone.read("b.safetensors")) == (a, b)
    assert_healthy(clone)


def test_a_cloned_repository_needs_no_setup(work, bare, versions, clone_of, tune, model, safetensors):
    """With the global installation, change, commit and push leave nothing behind."""
    work.git("push", "-q", "origin", "main")
    clone = clone_of(bare.path)
    data = safetensors(tune(model(5), 1))
    clone.commit(m__safetensors=data)
    clone.git("push", "-q")
    assert clone_of(bare.path, "again").read("m.safetensors") == data


def test_a_foreign_hook_still_runs(work, bare, versions):
    hooks = work.path / ".git" / "hooks"
    (hooks / "pre-push").unlink()
    (hooks / "pre-push").write_text('#!/bin/sh\necho "$1 $(cat)" >> ran\n')
    (hooks / "pre-push").chmod(0o755)
    work.coral("init")
    work.git("push", "-q", "origin", "main")
    head = work.git("rev-parse", "HEAD")
    assert (work.path / "ran").read_text() == f"origin refs/heads/main {head} refs/heads/main {'0' * 40}\n"
    assert remote_packs(bare)
    work.git("branch", "more")
    work.coral("push", "-q", "origin", "more")
    assert (work.path / "ran").read_text().count("origin") == 2


def test_hooks_path_gets_advice(work, bare, versions):
    work.git("config", "core.hooksPath", "my-hooks")
    assert 'git coral hook pre-push "$@"' in work.coral("init")
    work.coral("push", "-q", "origin", "main")
    assert remote_packs(bare)


def test_a_remote_that_may_not_be_written(work, bare, versions):
    hook = bare.path / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'this repository is read-only' >&2\nexit 1\n")
    hook.chmod(0o755)
    done = work.run("coral", "push", "origin", "main", code=15)
    assert b"remote 'origin' refused" in done.stderr
    assert b"read-only" in done.stderr
    assert leftovers(work) == []


def test_a_push_url_of_its_own(work, bare, versions, make_repo, clone_of):
    """What the place lacks that is pushed to counts, not what the place has that is fetched from."""
    work.git("push", "-q", "origin", "main")
    fork = make_repo("fork.git", bare=True)
    work.git("remote", "set-url", "--push", "origin", fork.path)
    work.git("push", "-q", "origin", "main")
    assert_versions(clone_of(fork.path), versions)


def test_an_empty_repository(work, bare):
    done = work.run("coral", "push", "origin", "main", code=1)
    assert b"src refspec main does not match any" in done.stderr
    work.coral("push", "--objects-only", "origin")
    assert bare.git("for-each-ref") == ""


def test_a_mirror_does_not_delete_the_weights(work, bare, versions):
    """``git push --mirror`` deletes every ref that is not here, and packs are refs."""
    work.git("push", "-q", "origin", "main")
    packs = remote_packs(bare)
    done = work.run("push", "--mirror", "origin", code=None)
    assert done.returncode != 0
    assert b"would delete the weights" in done.stderr
    assert remote_packs(bare) == packs
    done = work.run("coral", "push", "--mirror", "origin", code=None)
    assert done.returncode != 0
    assert remote_packs(bare) == packs
