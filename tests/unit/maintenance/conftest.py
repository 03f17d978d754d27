"""Repositories with real git and tiny models, cleaned in this process: quick enough for loops."""

import json
import os
import random
import subprocess
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import pytest

from coral_git import fsops
from coral_git.limits import Limits
from coral_git.manifest.model import object_ids
from coral_git.manifest.parse import parse
from coral_git.pipeline.clean import clean_content
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.workspace import Workspace

DAY = 86_400
LIMITS = Limits(pack_target=64 << 10, pack_max=1 << 20)


def safetensors(seeds, length=256):
    """A model with one tensor per name, filled from a seed."""
    header, body = {}, b""
    for name, seed in seeds.items():
        data = random.Random(seed).randbytes(length)
        header[name] = {"dtype": "U8", "shape": [length], "data_offsets": [len(body), len(body) + length]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + body


class Repo:
    """A repository whose files are cleaned without a filter process."""

    def __init__(self, path, limits=LIMITS, object_format="sha1"):
        self.path = Path(path)
        self.limits = limits
        if not self.path.exists():
            self.path.mkdir(parents=True)
            kind = f"--object-format={object_format}"
            self.git("init", "--quiet", "-b", "main", "--template=", kind)  # no samples to be copied

    def git(self, *args, data=b"", check=True):
        done = subprocess.run(["git", *args], cwd=self.path, input=data, capture_output=True, check=False)
        assert not check or done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().rstrip("\n")

    @contextmanager
    def workspace(self):
        workspace = Workspace.open(str(self.path), self.limits)
        try:
            yield workspace
        finally:
            workspace.close()

    def clean(self, path, data):
        """The manifest of a file; its objects are stored."""
        with self.workspace() as workspace:
            return clean_content(workspace, os.fsencode(path), [data])

    def blob(self, text):
        return self.git("hash-object", "-w", "--stdin", data=text)

    def stage(self, path, text, **options):
        oid = self.blob(text)
        self.git("update-index", "--add", "--cacheinfo", f"100644,{oid},{path}", **options)
        return oid

    def add(self, path, data):
        """Clean and stage a file; the id of its manifest blob."""
        return self.stage(path, self.clean(path, data))

    def commit(self, path="m.safetensors", message="commit", **seeds):
        """Clean and commit a model; the id of the commit."""
        self.add(path, safetensors(seeds))
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def objects(self, spec):
        """The objects that a manifest names."""
        text = subprocess.run(
            ["git", "cat-file", "blob", spec], cwd=self.path, capture_output=True, check=True
        ).stdout
        with self.workspace() as workspace:
            return set(object_ids(expanded(parse(text, self.limits), workspace.store)))

    def forget(self):
        """Let git forget what nothing refers to."""
        self.git("reflog", "expire", "--expire=now", "--all")
        self.git("gc", "--quiet", "--prune=now")

    @cached_property
    def store_root(self):
        common = self.git("rev-parse", "--path-format=absolute", "--git-common-dir")
        return Path(common, "coral")

    def packs(self):
        return sorted((self.store_root / "objects" / "packs").glob("*.pack"))

    def trash(self):
        return sorted((self.store_root / "trash").glob("*/*.pack"))

    def incoming(self):
        return sorted((self.store_root / "objects" / "incoming").iterdir())

    def age(self, days=30):
        """Make every pack old."""
        for path in self.packs():
            old = path.stat().st_mtime - days * DAY
            os.utime(path, (old, old))

    def stored(self, object_ids):
        """Those of the objects that are stored, as a fresh process sees it."""
        with self.workspace() as workspace:
            return set(object_ids) - set(workspace.store.find_missing(object_ids))


@pytest.fixture(autouse=True)
def _surroundings(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(("GIT_", "CORAL_")) and name != "CORAL_KERNEL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "T")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")
    yield
    fsops.set_fault_hook(None)


@pytest.fixture
def make_repo(tmp_path):
    """Makes repositories: ``make_repo(name, limits, object_format)``."""
    return lambda name="repo", *options, **named: Repo(tmp_path / name, *options, **named)


@pytest.fixture
def repo(make_repo):
    return make_repo()


@pytest.fixture
def model():
    """Gives the bytes of a small model: ``model({"name": seed})``."""
    return safetensors


@pytest.fixture
def flip():
    """Flips one bit of a file: ``flip(path, offset)``."""

    def flip_bit(path, offset):
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[offset] ^= 1
        path.write_bytes(data)

    return flip_bit
