"""Remote stores for the tests: directories, and bare repositories reached by path, file:// and ssh."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from coral_git.git.command import Git
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.remotes.base import RemoteContext, RemoteStore
from coral_git.remotes.registry import open_remote
from coral_git.remotes.snapshot import commit_bytes, tree_bytes
from coral_git.types import PackId

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:" + os.environ.get("PATH", ""))
pytest.register_assert_rewrite("tests.unit.remotes.conformance")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration and no agent of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "SSH_"))]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


def git(*args: str | Path, cwd: Path | None = None, data: bytes = b"") -> str:
    """Run git as a user would."""
    done = subprocess.run(["git", *map(str, args)], cwd=cwd, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()


Before = Callable[[tuple[str, ...]], None]


class ObservedGit(Git):
    """Git, with a function that is called before every command in a scratch repository."""

    before: Before | None = None

    def run(
        self,
        *args: str,
        input: bytes = b"",  # noqa: A002
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        if self.before is not None:
            self.before(args)
        return super().run(*args, input=input, check=check, env=env)


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The repository of a user."""
    path = tmp_path / "user"
    git("init", "--quiet", path)
    return path


def make_context(user: Path, limits: Limits = DEFAULT_LIMITS, before: Before | None = None) -> RemoteContext:
    def elsewhere(git_dir: str) -> Git:
        git = ObservedGit(git_dir, Git.elsewhere(git_dir)._env)
        git.before = before
        return git

    return RemoteContext(
        git=Git(str(user)),
        scratch_git=Git.elsewhere if before is None else elsewhere,
        store_root=str(user / ".git" / "coral"),
        limits=limits,
    )


@dataclass
class DirectoryPlace:
    path: Path
    location: str
    user: Path

    def open(self, limits: Limits = DEFAULT_LIMITS, before_git: Before | None = None) -> RemoteStore:
        return open_remote(self.location, make_context(self.user, limits, before_git))

    def damage(self, pack: PackId) -> None:
        path = self.path / "packs" / f"{pack.hex()}.pack"
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def left_behind(self) -> list[str]:
        return sorted(path.name for path in self.path.rglob("incoming*"))


@dataclass
class GitPlace:
    path: Path
    location: str
    user: Path
    prefix: str = "refs/coral/store"

    def open(self, limits: Limits = DEFAULT_LIMITS, before_git: Before | None = None) -> RemoteStore:
        context = replace(make_context(self.user, limits, before_git), ref_prefix=self.prefix)
        return open_remote(self.location, context)

    def damage(self, pack: PackId) -> None:
        """Put a commit with other bytes under the ref, as a person with push rights could."""
        ref = f"{self.prefix}/pack/{pack.hex()}"
        data = bytearray(subprocess.check_output(["git", "cat-file", "blob", f"{ref}:000000"], cwd=self.path))
        data[len(data) // 2] ^= 1
        blob = git("hash-object", "-w", "--stdin", cwd=self.path, data=bytes(data))
        tree = git("hash-object", "-t", "tree", "-w", "--stdin", cwd=self.path, data=tree_bytes([blob]))
        commit = git(
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            cwd=self.path,
            data=commit_bytes("pack", pack, tree),
        )
        git("update-ref", ref, commit, cwd=self.path)

    def left_behind(self) -> list[str]:
        store = self.user / ".git" / "coral"
        return sorted(path.name for path in store.glob("tmp-*")) if store.exists() else []

    def refs(self) -> dict[str, str]:
        lines = git("for-each-ref", "--format=%(refname) %(objectname)", cwd=self.path).splitlines()
        return dict(line.split(" ") for line in lines)


def make_bare(path: Path, object_format: str = "sha1") -> Path:
    git("init", "--quiet", "--bare", f"--object-format={object_format}", path)
    return path


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    return make_bare(tmp_path / "bare.git")


@dataclass
class SshServer:
    """An ssh server on this host, for this user, with keys of its own."""

    port: int
    command: str

    def url(self, path: Path) -> str:
        return f"ssh://{pwd.getpwuid(os.getuid()).pw_name}@127.0.0.1:{self.port}{path}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    if SSHD is None:
        pytest.skip("sshd is not installed")
    folder = tmp_path_factory.mktemp("ssh")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it when it starts as root
    port = free_port()
    config = folder / "config"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
        f"AuthorizedKeysFile {folder}/authorized\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\nMaxStartups 100\n"
    )
    with subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        said: list[bytes] = []
        while not any(b"Server listening" in line for line in said):
            line = server.stderr.readline()
            assert line, b"".join(said)
            said.append(line)
        drain = threading.Thread(target=server.stderr.read, daemon=True)
        drain.start()
        command = (
            f"ssh -F none -i {folder}/user -o IdentitiesOnly=yes -o StrictHostKeyChecking=no"
            f" -o UserKnownHostsFile={folder}/known -o LogLevel=ERROR -o BatchMode=yes"
        )
        yield SshServer(port, command)
        server.terminate()
