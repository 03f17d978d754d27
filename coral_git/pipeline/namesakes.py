"""Tensors of the same name in other files of the repository, and in recent versions of them.

Asked only for a tensor that the previous version of its own path does not have.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from itertools import chain, islice

from coral_git.errors import CoralError
from coral_git.git.command import Git
from coral_git.git.revisions import TreeEntry, list_index, recent_files
from coral_git.manifest.model import TensorEntry
from coral_git.pipeline.manifests import expanded_or_none, read_manifest
from coral_git.pipeline.workspace import Workspace
from coral_git.types import ObjectId

_ENDINGS = (
    b".safetensors",
    b".pt",
    b".pth",
    b".bin",
    b".ckpt",
    b".npz",
    b".gguf",
    b".onnx",
    b".tflite",
    b".msgpack",
    b".h5",
    b".keras",
)
_FILES = 64


class Namesakes:
    """The tensors of other files by name, read when they are first asked for; for several threads.

    Args:
        workspace: the repository.
        path: the file that is being added, from the root of the work tree; it is not looked at itself.
    """

    def __init__(self, workspace: Workspace, path: bytes) -> None:
        self._workspace = workspace
        self._path = path
        self._lock = threading.Lock()
        self._tensors: dict[str, list[TensorEntry]] | None = None

    def objects(self, name: str, number: int) -> list[ObjectId]:
        """Part ``number`` of the tensors of a name."""
        with self._lock:
            if self._tensors is None:
                self._tensors = self._read()
            found = self._tensors.get(name, ())
        parts = (one.objects[number] for one in found if number < len(one.objects))
        return list(dict.fromkeys(parts))

    def _read(self) -> dict[str, list[TensorEntry]]:
        tensors: dict[str, list[TensorEntry]] = {}
        for oid in islice(self._blobs(), _FILES):
            stored = read_manifest(self._workspace, oid.encode())
            whole = None if stored is None else expanded_or_none(self._workspace, stored.manifest)
            for tensor in () if whole is None else whole.tensors:
                tensors.setdefault(tensor.name, []).append(tensor)
        return tensors

    def _blobs(self) -> Iterator[str]:
        """Small files in the index with an ending of weights, then those of recent commits; each once."""
        endings = (*_ENDINGS, os.path.splitext(self._path)[1] or b"\0")
        seen: set[str] = set()
        git = self._workspace.git
        for entry in chain(_listed(list_index, git), _listed(recent_files, git)):
            is_other = entry.path != self._path and entry.is_file and entry.oid not in seen
            if is_other and entry.path.endswith(endings):
                seen.add(entry.oid)
                yield entry.oid


def _listed(list_files: Callable[[Git], list[TreeEntry]], git: Git) -> Iterator[TreeEntry]:
    """The files of a listing, asked when the first is wanted; none where git cannot tell."""
    with contextlib.suppress(CoralError):
        yield from list_files(git)
