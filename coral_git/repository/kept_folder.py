"""Folders that trainers write, kept in commits byte for byte, and written back.

Weights go through the store, whatever is small and no weights is a blob of git.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator

from coral_git import fsops
from coral_git.errors import CoralError, IntegrityError, ObjectMissingError, UsageError, from_os_error
from coral_git.git.objects import blob_oid
from coral_git.git.revisions import list_tree
from coral_git.git.worktree import WorkTreeFile, require_space
from coral_git.limits import MIB
from coral_git.manifest.model import Manifest
from coral_git.manifest.parse import claims_manifest
from coral_git.pipeline.decode import expanded, write_file
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.messages import missing_message
from coral_git.pipeline.missing import bring_objects
from coral_git.pipeline.parallel import Workers
from coral_git.pipeline.source import FileSource, identity, open_regular
from coral_git.pipeline.verify import verify_digest, verify_manifest
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.importing import WEIGHT_SUFFIXES

PLAIN_BYTES = 8 * MIB
"""What is longer goes through the store, whatever it is called, and with it all files of such a name."""

_HEAD_BYTES = 256


class OpenedFile:
    """The bytes of a file that is open, so that they can be read when its name is gone.

    Args:
        source: the file.
    """

    path = None

    def __init__(self, source: FileSource) -> None:
        self._source = source
        self.size = source.size

    def read_at(self, offset: int, length: int) -> bytes:
        """The bytes from ``offset``; fewer than ``length`` only at the end."""
        return self._source.read_at(offset, length)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def check_unchanged(self) -> None:
        """Fail when the file was written to since it was opened; that its name is gone is no change.

        Raises:
            CoralError: size or time differ.
        """
        now, then = os.fstat(self._source.fd), self._source.status
        if (now.st_size, now.st_mtime_ns) != (then.st_size, then.st_mtime_ns):
            raise CoralError(f"'{os.fsdecode(self._source.path or b'')}' changed while it was stored")


class OpenedFolder:
    """The files of a folder and of those below it, open.

    Attributes:
        stored: those that go through the store, by path in the folder.
        plain: the content of the others.
    """

    def __init__(self, folder: str) -> None:
        """Open all files.

        Args:
            folder: its path.

        Raises:
            UsageError: there is no such folder, or it has a link or something else that is no file.
        """
        self.folder = folder
        self.stored: dict[str, OpenedFile] = {}
        self.plain: dict[str, bytes] = {}
        self._opened: dict[str, OpenedFile] = {}
        self._identities: dict[str, tuple[int, ...]] = {}
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files; a second call does nothing."""
        opened, self._opened = self._opened, {}
        for one in opened.values():
            one.close()

    def remove(self) -> None:
        """Remove the files that were opened, and folders that are empty then; what has changed stays."""
        for name, known in self._identities.items():
            path = os.path.join(self.folder, name)
            try:
                is_same = identity(os.lstat(path)) == known
            except OSError:
                continue
            if is_same:
                fsops.remove(path)
        folders = {os.path.dirname(name) for name in self._identities}
        for folder in sorted(folders | {""}, key=len, reverse=True):
            while folder:
                fsops.remove_directory(os.path.join(self.folder, folder))
                folder = os.path.dirname(folder)
        fsops.remove_directory(self.folder)

    def _open(self) -> None:
        for name in _walk(self.folder):
            source = open_regular(os.fsencode(os.path.join(self.folder, name)))
            if source is None:
                raise UsageError(
                    f"'{os.path.join(self.folder, name)}' cannot be kept", hint="only files can, no links"
                )
            self._opened[name] = OpenedFile(source)
            self._identities[name] = identity(source.status)
        if not self._opened:
            raise UsageError(f"there are no files in '{self.folder}'")
        long = {_kind(name) for name, one in self._opened.items() if one.size > PLAIN_BYTES}
        for name, opened in self._opened.items():
            is_weights = name.lower().endswith(WEIGHT_SUFFIXES) or _kind(name) in long
            if is_weights or claims_manifest(opened.read_at(0, _HEAD_BYTES)):
                self.stored[name] = opened
            else:
                self.plain[name] = opened.read_at(0, opened.size)
                opened.check_unchanged()


def verify_folder(workspace: Workspace, commit: str, folder: str, names: Collection[str]) -> None:
    """Read a folder of a commit back out of store and git, and compare every file with its digest.

    Args:
        workspace: the repository.
        commit: the commit.
        folder: its path from the root.
        names: the files that have to be there, and no others.

    Raises:
        IntegrityError: a file is not there, or not what its digest says.
        ObjectMissingError: an object is not in the store.
    """
    found = list(_files(workspace, commit, folder))
    if {name for name, _, _ in found} != set(names):
        raise IntegrityError(f"'{folder}' of {commit} does not have the files that were stored")
    with Workers(workspace.settings.threads) as workers:
        for name, oid, manifest in found:
            if manifest is not None:
                verify_manifest(expanded(manifest, workspace.store), workspace.store, workers)
            elif blob_oid(_blob(workspace, oid, name), workspace.paths.object_format).hex() != oid:
                raise IntegrityError(f"blob {oid} of '{name}' is damaged", hint="git fsck")


def restore_folder(
    workspace: Workspace, commit: str, folder: str, root: str, name: str, *, last: str = ""
) -> str:
    """Write a folder of a commit below ``root``; gives its path.

    Files that are there already have to be the same; those that are missing are written. Links are not
    followed, and nothing outside of the new folder is touched.

    Args:
        workspace: the repository; what it lacks is fetched.
        commit: the commit.
        folder: the folder in its tree.
        root: where the new folder is to be; made where it is missing.
        name: what the new folder is called.
        last: a file that is written when all others are there.

    Raises:
        UsageError: the commit has no such folder, or a file is there and differs.
        ObjectMissingError: an object cannot be had.
        CoralError: an object is damaged, or the file system refused.
    """
    found = sorted(_files(workspace, commit, folder), key=lambda one: (one[0] == last, one[0]))
    if not found:
        raise UsageError(f"{commit} has no folder '{folder}'", hint="git coral ls-tree REV")
    weights = [(os.fsencode(path), manifest) for path, _, manifest in found if manifest is not None]
    if missing := bring_objects(workspace, weights):
        raise missing_message(weights[0][0], weights[0][1], missing)
    try:
        fsops.make_directory(root)
    except OSError as error:
        raise from_os_error(error, f"make '{root}'") from error
    require_space(root, sum(manifest.size for _, manifest in weights))
    with Workers(workspace.settings.threads) as workers:
        for path, oid, manifest in found:
            place = os.fsencode(os.path.join(name, path))
            with WorkTreeFile(root, place, git_dir=workspace.paths.git_dir) as target:
                if manifest is None:
                    fsops.write_all(target.fd, _blob(workspace, oid, path), path)
                else:
                    whole = expanded(manifest, workspace.store)
                    write_file(whole, workspace.store, target.fd, workers, path)
                    verify_digest(target.fd, whole)
                _place(target, os.path.join(root, name, path))
    return os.path.join(root, name)


def _place(target: WorkTreeFile, shown: str) -> None:
    """Move a file to its place where there is none, or the same one."""
    new = target.fd

    def is_free(fd: int | None) -> bool:
        return not os.path.lexists(shown) if fd is None else _are_equal(fd, new)

    if target.commit(is_free) is None:
        raise UsageError(f"'{shown}' is there and is another one", hint="move it away, then try again")


def _are_equal(one: int, other: int) -> bool:
    size = os.fstat(one).st_size
    return size == os.fstat(other).st_size and all(
        os.pread(one, MIB, offset) == os.pread(other, MIB, offset) for offset in range(0, size, MIB)
    )


def _files(workspace: Workspace, commit: str, folder: str) -> Iterator[tuple[str, str, Manifest | None]]:
    """The files of a folder: path in it, id of the blob, and its manifest where it has one."""
    start = os.fsencode(folder) + b"/"
    for entry in list_tree(workspace.git, commit, [start]):
        if not entry.is_file:
            raise UsageError(f"'{os.fsdecode(entry.path)}' of {commit} is no file")
        found = read_manifest(workspace, entry.oid.encode())
        name = os.fsdecode(entry.path.removeprefix(start))
        yield name, entry.oid, None if found is None else found.manifest


def _blob(workspace: Workspace, oid: str, name: str) -> bytes:
    found = workspace.objects.blob(oid.encode())
    if found is None:
        raise ObjectMissingError(f"blob {oid} of '{name}' is missing", hint="git fsck")
    return found[1]


def _walk(folder: str) -> Iterator[str]:
    """All that is in a folder and in those below it and is no folder; links to folders among it."""

    def refuse(error: OSError) -> None:
        raise from_os_error(error, f"read the folder '{error.filename}'") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        folders.sort()
        links = [name for name in folders if stat.S_ISLNK(os.lstat(os.path.join(place, name)).st_mode)]
        for name in sorted((*files, *links)):
            yield os.path.relpath(os.path.join(place, name), folder)


def _kind(name: str) -> str:
    """What a pattern of attributes tells files apart by: the suffix, else the whole path."""
    return os.path.splitext(name)[1] or name
