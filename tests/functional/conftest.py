"""Real git, the installed ``git-coral``, and small models; nothing of whoever runs the tests."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from coral_git.errors import CoralError
from coral_git.manifest.damage import has_conflict_markers
from coral_git.manifest.model import Manifest, object_ids
from coral_git.manifest.parse import claims_manifest, parse
from coral_git.pipeline.decode import expanded, stream_file
from coral_git.pipeline.parallel import Workers
from coral_git.store.store import Store

DTYPE_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}
Tensors = Mapping[str, np.ndarray]
_LONG_AGO = itertools.count(10**9)


@pytest.fixture(scope="session")
def installed_home(tmp_path_factory) -> Path:
    """A home directory after ``git coral install``, to be copied."""
    assert shutil.which("git-coral"), "git-coral is not on PATH; run the tests with 'make test'"
    home = tmp_path_factory.mktemp("installed-home")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environment |= {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config"), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "coral", "install"], cwd=home, env=environment, check=True, capture_output=True)
    return home


def isolate(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make an empty folder the home; no variable, file, terminal or hook of the user's reaches git."""
    for name in list(os.environ):
        if name.startswith(("GIT_", "CORAL_")) and name != "CORAL_KERNEL":
            patch.delenv(name)
    for name in ("CI", "SSH_ASKPASS", "PYTHONSAFEPATH"):
        patch.delenv(name, raising=False)
    values = {
        "HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_EDITOR": "true",
    }
    for role in ("AUTHOR", "COMMITTER"):
        values |= {f"GIT_{role}_NAME": "T", f"GIT_{role}_EMAIL": "t@example.org"}
    for name, value in values.items():
        patch.setenv(name, value)


@pytest.fixture(autouse=True)
def home(tmp_path_factory, monkeypatch) -> Path:
    """An empty home directory."""
    folder = tmp_path_factory.mktemp("home")
    isolate(monkeypatch, folder)
    return folder


@pytest.fixture
def installed(home, installed_home) -> None:
    """The drivers are in the global configuration of this test."""
    install_into(home, installed_home)


def install_into(home: Path, installed_home: Path) -> None:
    """Copy the configuration of a home after ``git coral install``."""
    shutil.copy(installed_home / ".gitconfig", home / ".gitconfig")
    with (home / ".gitconfig").open("a") as file:
        file.write('[protocol "file"]\n\tallow = always\n[init]\n\tdefaultBranch = main\n')


class Repo:
    """A repository to be worked in.

    Attributes:
        path: the root of its work tree, or itself when it is bare.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self,
        *args: str | bytes | Path,
        code: int | None = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        data: bytes = b"",
    ) -> subprocess.CompletedProcess[bytes]:
        """``git <args>``; ``code`` is the exit code that is expected, None for any."""
        done = subprocess.run(
            [b"git", *map(os.fsencode, args)],
            cwd=cwd or self.path,
            input=data,
            capture_output=True,
            check=False,
            env={**os.environ, **(env or {})},
        )
        if code is not None:
            said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
            assert done.returncode == code, f"git {args} exited with {done.returncode}\n{said}"
        return done

    def git(self, *args: str | bytes | Path, **options) -> str:
        """What ``git <args>`` prints."""
        return os.fsdecode(self.run(*args, **options).stdout).rstrip("\n")

    def coral(self, *args: str | Path, **options) -> str:
        """What ``git coral <args>`` prints."""
        return self.git("coral", *args, **options)

    def status(self, *args: str) -> str:
        """``git status`` for programs."""
        return self.git("status", "--porcelain", *args)

    def write(self, name: str | bytes, data: bytes) -> Path:
        """Write a file of the work tree."""
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def read(self, name: str | bytes) -> bytes:
        """A file of the work tree."""
        return (self.path / os.fsdecode(name)).read_bytes()

    def commit(self, message: str = "commit", **files: bytes) -> str:
        """Write files (``name__ext`` for ``name.ext``), commit everything, give the id of the commit.

        The files look as if they had been written long ago, each at another time, so that git need not look
        at them twice; use ``write`` and ``git add`` for what is fresh.
        """
        for name, data in files.items():
            second = next(_LONG_AGO)
            os.utime(self.write(name.replace("__", "."), data), (second, second))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def blob(self, spec: str) -> bytes:
        """What git has stored, without any filter."""
        return self.run("cat-file", "blob", spec).stdout

    def manifest(self, spec: str) -> Manifest:
        """The manifest that git has stored, with its tables in place."""
        with self.store() as store:
            return expanded(parse(self.blob(spec), store.limits), store)

    def objects(self, spec: str) -> set[bytes]:
        """The ids of all objects of a file."""
        return set(object_ids(self.manifest(spec)))

    def common_dir(self) -> Path:
        """The git directory that all work trees share."""
        return Path(self.git("rev-parse", "--path-format=absolute", "--git-common-dir"))

    def store(self) -> Store:
        """The store, opened."""
        return Store.open(str(self.common_dir() / "coral"))

    def packs(self) -> list[str]:
        """The names of the packs."""
        folder = self.common_dir() / "coral" / "objects" / "packs"
        return sorted(path.name for path in folder.glob("*.pack")) if folder.exists() else []


@pytest.fixture
def make_repo(tmp_path, installed) -> Callable[..., Repo]:
    """Makes repositories in which ``*.safetensors`` and ``*.bin`` are tracked by coral-git."""

    def make(
        name: str = "repo", *, object_format: str = "sha1", bare: bool = False, track: bool = True
    ) -> Repo:
        return new_repo(tmp_path / name, object_format=object_format, bare=bare, track=track)

    return make


def new_repo(path: Path, *, object_format: str = "sha1", bare: bool = False, track: bool = True) -> Repo:
    """Make a repository."""
    repo = Repo(path)
    repo.path.mkdir(parents=True)
    kind = ["--bare"] if bare else []
    repo.git("init", "--quiet", "-b", "main", f"--object-format={object_format}", *kind)
    if track and not bare:
        attributes = b"filter=coral diff=coral merge=coral -text\n"
        repo.write(".gitattributes", b"*.safetensors " + attributes + b"*.bin " + attributes)
    return repo


@pytest.fixture(scope="module")
def make_shared(tmp_path_factory, installed_home) -> Iterator[Callable[..., Repo]]:
    """Makes repositories that the tests of a module only read: ``make_shared(build, object_format="sha1")``.

    ``build(repo)`` writes and commits. That they are still healthy is checked when the module ends.
    """
    folder = tmp_path_factory.mktemp("shared")
    made = []
    (folder / "home").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder / "home")
        install_into(folder / "home", installed_home)

        def make(build: Callable[[Repo], None], object_format: str = "sha1") -> Repo:
            with pytest.MonkeyPatch.context() as inner:
                isolate(inner, folder / "home")
                made.append(new_repo(folder / str(len(made)) / "repo", object_format=object_format))
                build(made[-1])
            return made[-1]

        yield make
        for repo in made:
            check_health(repo)


class Shelf:
    """Versions of weight files, cleaned by one ``git add``, and commits of them made by plumbing.

    Args:
        repo: an empty repository.
        versions: the bytes of each version, by name.
    """

    def __init__(self, repo: Repo, versions: Mapping[str, bytes]) -> None:
        self.repo = repo
        self._seconds = itertools.count(1_700_000_000)
        for number, data in enumerate(versions.values()):
            repo.write(f"{number}.safetensors", data)
        repo.git("add", "--all")
        blobs = [repo.git("rev-parse", f":{number}.safetensors") for number in range(len(versions))]
        self._blobs = dict(zip(versions, blobs, strict=True))
        self._attributes = repo.git("rev-parse", ":.gitattributes")
        for number in range(len(versions)):
            (repo.path / f"{number}.safetensors").unlink()

    def commit(
        self,
        message: str,
        files: Mapping[str | bytes, str | bytes | None],
        parents: list[str] | None = None,
        branch: str = "main",
    ) -> str:
        """Make a commit later than the one before, and move a branch to it; the work tree stays as it is.

        Args:
            message: taken as it is.
            files: names of versions, or the bytes of other files, or None for what is removed.
            parents: the head of the branch by default.
            branch: its name.
        """
        git = self.repo.git
        if parents is None:
            parents = git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}").split()
        git("read-tree", parents[0] if parents else "--empty")
        lines = [f"100644 {self._attributes}\t.gitattributes\0".encode()]
        for path, content in files.items():
            if content is None:
                lines.append(b"0 " + b"0" * len(self._attributes) + b"\t" + os.fsencode(path) + b"\0")
                continue
            is_version = isinstance(content, str)
            oid = self._blobs[content] if is_version else git("hash-object", "-w", "--stdin", data=content)
            lines.append(f"100644 {oid}\t".encode() + os.fsencode(path) + b"\0")
        git("update-index", "-z", "--index-info", data=b"".join(lines))
        date = f"{next(self._seconds)} +0000"
        words = [word for parent in parents for word in ("-p", parent)]
        dates = {"GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
        oid = git("commit-tree", git("write-tree"), *words, data=message.encode(), env=dates)
        git("update-ref", f"refs/heads/{branch}", oid)
        return oid


@pytest.fixture
def ask(capfd, monkeypatch) -> Callable[..., tuple[str, str]]:
    """Runs the command in this process, which is quicker: ``ask(path, "log", "--json", code=0)``.

    Gives what it printed on standard output and on standard error.
    """
    from coral_git.cli.main import run

    def run_here(path: Path, *args: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.chdir(path)
        capfd.readouterr()
        status = run(args)
        printed = capfd.readouterr()
        assert status == code, f"git coral {args} exited with {status}\n{printed.out}\n{printed.err}"
        return printed.out, printed.err

    return run_here


@pytest.fixture
def repo(make_repo) -> Repo:
    """A repository with the drivers installed and two patterns tracked, without commits."""
    return make_repo()


@pytest.fixture
def at() -> Callable[[Path], Repo]:
    """Takes a folder that a test made (a clone, a linked work tree) for a repository."""
    return Repo


def safetensors_bytes(tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
    """A file in the safetensors format."""
    header: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    pieces = []
    offset = 0
    for name, array in tensors.items():
        data = np.ascontiguousarray(array).tobytes()
        dtype = DTYPE_NAMES[array.dtype.name]
        header[name] = {
            "dtype": dtype,
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        pieces.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(pieces)


@pytest.fixture
def safetensors() -> Callable[..., bytes]:
    """Gives the bytes of a safetensors file: ``safetensors({name: ndarray}, metadata=None)``."""
    return safetensors_bytes


@pytest.fixture
def write_safetensors() -> Callable[..., bytes]:
    """Writes a safetensors file: ``write_safetensors(path, {name: ndarray})``; gives its bytes."""

    def write(path: Path, tensors: Tensors, metadata: Mapping[str, str] | None = None) -> bytes:
        data = safetensors_bytes(tensors, metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return data

    return write


@pytest.fixture
def model() -> Callable[..., dict[str, np.ndarray]]:
    """Makes the tensors of a small network: ``model(seed, layers=3, width=48)``."""

    def make(seed: int = 0, layers: int = 3, width: int = 48) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        tensors = {"embed.weight": random.standard_normal((4 * width, width), np.float32)}
        for layer in range(layers):
            tensors[f"layer.{layer}.weight"] = random.standard_normal((width, width), np.float32) / 8
            tensors[f"layer.{layer}.bias"] = np.zeros(width, np.float32)
        return tensors

    return make


@pytest.fixture
def tune() -> Callable[..., dict[str, np.ndarray]]:
    """Changes tensors a little, as training does: ``tune(tensors, seed, only=None)``."""

    def change(tensors: Tensors, seed: int = 1, only: set[str] | None = None) -> dict[str, np.ndarray]:
        random = np.random.default_rng(seed)
        result = dict(tensors)
        for name, array in tensors.items():
            if only is None or name in only:
                step = random.standard_normal(array.shape).astype(np.float32) * 1e-4
                result[name] = (array + step).astype(array.dtype)
        return result

    return change


@pytest.fixture
def assert_healthy() -> Callable[..., None]:
    """Checks a repository and its store completely: ``assert_healthy(repo, missing=False)``."""
    return check_health


def check_health(repo: Repo, *, missing: bool = False) -> None:
    """Assert what must hold after every operation, whatever was killed.

    Git's objects are sound; every pack verifies; every manifest in any blob can be parsed, its objects are
    there (unless ``missing``) and give a file of its SHA-256; nothing is left behind.
    """
    repo.git("fsck", "--no-dangling", "--no-progress")
    places = repo.git("rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir")
    git_dir, common_dir = map(Path, places.splitlines())
    assert not (git_dir / "index.lock").exists()
    leftovers = git_dir / "coral-tmp"
    assert not leftovers.exists() or not list(leftovers.iterdir())
    assert not [path for path in repo.path.rglob(".coral-tmp*") if ".git" not in path.parts]
    if not (common_dir / "coral" / "FORMAT").exists():
        return
    with Store.open(str(common_dir / "coral")) as store:
        assert not os.listdir(store.layout.incoming)
        for pack in store.packs():
            assert not list(store.verify(pack.id))
        with Workers(2) as workers:
            for manifest in _manifests(repo, store):
                _check_manifest(manifest, store, workers, missing)


def _dropped(repo: Repo, notes: Path) -> set[bytes]:
    """Blobs of checkpoints that were dropped on purpose, and that nothing reaches."""
    noted = {line for note in notes.glob("*") for line in note.read_bytes().split()}
    if noted:
        arguments = ("--objects", "--no-object-names", "--all", "--reflog", "--indexed-objects")
        noted -= set(repo.run("rev-list", *arguments).stdout.split())
    return noted


def _manifests(repo: Repo, store: Store) -> Iterator[Manifest]:
    """Every manifest in git's object database, reachable or not, that was not dropped."""
    dropped = _dropped(repo, Path(store.root) / "dropped")
    output = repo.run("cat-file", "--batch-all-objects", "--unordered", "--batch").stdout
    while output:
        header, _, output = output.partition(b"\n")
        oid, kind, size = header.split()
        text, output = output[: int(size)], output[int(size) + 1 :]
        if kind != b"blob" or has_conflict_markers(
            text
        ):  # git writes a conflict down, reachable from nowhere
            continue
        if claims_manifest(text) and oid not in dropped:
            yield parse(text, store.limits)


def _check_manifest(manifest: Manifest, store: Store, workers: Workers, missing: bool) -> None:
    try:
        whole = expanded(manifest, store)
        if missing and store.find_missing(object_ids(whole)):
            return
        digest = hashlib.sha256()
        for piece in stream_file(whole, store, workers):
            digest.update(piece)
    except CoralError as error:
        if missing:
            return
        raise AssertionError(f"{manifest.format} {manifest.sha256.hex()}: {error}") from error
    assert digest.digest() == manifest.sha256


@pytest.fixture
def count_filters(monkeypatch, tmp_path) -> Callable[[Repo, tuple[str, ...]], int]:
    """Runs a git command and counts the filter processes it starts: ``count_filters(repo, "status")``."""

    def count(repo: Repo, *args: str) -> int:
        trace = tmp_path / "git-trace"
        trace.unlink(missing_ok=True)
        repo.git(*args, env={"GIT_TRACE2_EVENT": str(trace)})
        events = [json.loads(line) for line in trace.read_text().splitlines()]
        started = [event for event in events if event["event"] == "child_start"]
        return sum("filter-process" in " ".join(event["argv"]) for event in started)

    return count


@pytest.fixture
def age() -> Callable[..., None]:
    """Sets the times of files back, as if they had been written a while ago: ``age(*paths)``."""

    def set_back(*paths: Path, seconds: int = 10) -> None:
        for path in paths:
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - seconds * 1_000_000_000))

    return set_back


@pytest.fixture
def coral_program() -> list[str]:
    """The command line of the installed program."""
    program = shutil.which("git-coral")
    assert program is not None
    return [program]


@pytest.fixture
def python() -> str:
    """The interpreter that runs the tests."""
    return sys.executable


@pytest.fixture
def hook_python(tmp_path) -> Callable[[str], dict[str, str]]:
    """Lets every Python that is started run code first: ``hook_python(code)`` gives the environment for it.

    A Python that does not load ``sitecustomize`` from where it is told is the one reason to skip a test.
    """

    def hook(code: str) -> dict[str, str]:
        folder = tmp_path / "hook"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
        ask = [sys.executable, "-c", "import sitecustomize; print(sitecustomize.__file__)"]
        loaded = subprocess.run(ask, env={**os.environ, "PYTHONPATH": path}, capture_output=True, check=False)
        if os.fsdecode(loaded.stdout).strip() != str(folder / "sitecustomize.py"):
            pytest.skip("this Python does not load sitecustomize from PYTHONPATH")
        return {"PYTHONPATH": path}

    return hook
