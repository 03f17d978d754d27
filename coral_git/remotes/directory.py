"""A plain directory as a remote store; ``docs/format/directory-remote.md`` describes it."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Iterator, Sequence

from coral_git import fsops
from coral_git.errors import FormatVersionError, IntegrityError, PolicyError, RemoteError
from coral_git.limits import DEFAULT_LIMITS, Limits
from coral_git.remotes.base import INDEX_BYTES_MAX, PackDownload, PackUpload
from coral_git.remotes.messages import escape, remote_os_error
from coral_git.remotes.transfer import file_digest, read_pieces, write_pack
from coral_git.types import PackId, parse_id

MARKER = "coral-store"
MARKER_TEXT = b"coral directory 1\n"
_PACK = ".pack"
_INDEX = ".idx"
_INCOMING = "incoming"
_ABANDONED_SECONDS = 14 * 86400
_READ_ONLY = 0o444


def create(path: str) -> None:
    """Make a directory into a remote store; one that is a remote store already is left as it is.

    Raises:
        RemoteError: it cannot be written, or is not empty and no remote store.
        StorageFullError: there is no space.
    """
    try:
        fsops.make_directory(path)
        if os.path.exists(os.path.join(path, MARKER)):
            return
        if any(name not in ("packs", "idx") for name in os.listdir(path)):
            raise RemoteError(f"the directory {path!r} is not empty", hint="name an empty or a new directory")
        for folder in ("packs", "idx"):
            fsops.make_directory(os.path.join(path, folder))
        fsops.replace_file(os.path.join(path, MARKER), MARKER_TEXT)
        fsops.sync_directory(path)
    except OSError as error:
        raise remote_os_error(error, f"make the remote store {path!r}") from error


class DirectoryRemote:
    """A remote store in a directory of a local or a network file system.

    Args:
        path: the directory.
        name: what the user calls it.
        limits: the caps that apply.
        fsync: whether what is published is flushed first.
    """

    __slots__ = ("_fsync", "_limits", "_path", "name", "url")

    def __init__(
        self, path: str, *, name: str = "", limits: Limits = DEFAULT_LIMITS, fsync: bool = True
    ) -> None:
        self._path = os.path.abspath(path)
        self._limits = limits
        self._fsync = fsync
        self.name = escape(name or path)
        self.url = escape(self._path)

    def list_packs(self) -> set[PackId]:
        """The packs that have an index; one directory listing each."""
        self._check()
        return self._names("packs", _PACK) & self._names("idx", _INDEX)

    def get_index(self, pack: PackId) -> bytes:
        """The index of one pack, as stored."""
        for _, index in self.get_indexes([pack]):
            return index
        raise self._missing(pack)

    def get_indexes(self, packs: Iterable[PackId]) -> Iterator[tuple[PackId, bytes]]:
        """The indexes of those packs that are there."""
        self._check()
        for pack in packs:
            path = self._index_path(pack)
            try:
                with open(path, "rb") as file:
                    index = file.read(INDEX_BYTES_MAX + 1)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise remote_os_error(error, f"read {path!r}") from error
            if len(index) > INDEX_BYTES_MAX:
                raise PolicyError(f"the index {path!r} is longer than {INDEX_BYTES_MAX} bytes")
            yield pack, index

    def get_pack(self, pack: PackId, incoming_path: str) -> None:
        """Copy a pack to a new file and check its SHA-256 on the way."""
        self._check()
        path = self._pack_path(pack)
        try:
            pieces = read_pieces(path)
            write_pack(
                pieces, incoming_path, pack, repr(self._path), self._limits.pack_max, fsync=self._fsync
            )
        except FileNotFoundError:
            raise self._missing(pack) from None
        except OSError as error:
            raise remote_os_error(error, f"copy {path!r} to {incoming_path!r}") from error

    def get_packs(self, downloads: Sequence[PackDownload]) -> None:
        """Copy packs one after the other."""
        for download in downloads:
            self.get_pack(download.pack, download.path)

    def put(self, pack_path: str, index: bytes, pack: PackId) -> None:
        """Publish a pack, then its index."""
        self.put_many([PackUpload(pack, pack_path, index)])

    def put_many(self, uploads: Sequence[PackUpload]) -> None:
        """Publish all packs, then all indexes; what is there and right is left alone."""
        self._check()
        try:
            for folder in ("packs", "idx"):
                fsops.make_directory(os.path.join(self._path, folder))
                self._sweep(os.path.join(self._path, folder))
            for upload in uploads:
                self._put_pack(upload)
            self._sync("packs")
            for upload in uploads:
                self._put_index(upload)
            self._sync("idx")
        except OSError as error:
            raise remote_os_error(error, f"write to the remote store {self._path!r}") from error

    def _put_pack(self, upload: PackUpload) -> None:
        final = self._pack_path(upload.pack)
        if os.path.exists(final) and file_digest(final) == upload.pack:
            return
        incoming = self._incoming("packs")
        write_pack(
            read_pieces(upload.path),
            incoming,
            upload.pack,
            repr(os.path.dirname(upload.path)),
            self._limits.pack_max,
            mode=_READ_ONLY,
            fsync=self._fsync,
        )
        self._publish(incoming, final, replace=os.path.exists(final))

    def _put_index(self, upload: PackUpload) -> None:
        final = self._index_path(upload.pack)
        with contextlib.suppress(FileNotFoundError), open(final, "rb") as file:
            if file.read(INDEX_BYTES_MAX + 1) == upload.index:
                return
        incoming = self._incoming("idx")
        fd = fsops.create_exclusive(incoming, _READ_ONLY)
        try:
            fsops.write_all(fd, upload.index, incoming)
            if self._fsync:
                fsops.sync_file(fd, incoming)
        except BaseException:
            fsops.discard(fd, incoming)
            raise
        os.close(fd)
        self._publish(incoming, final, replace=os.path.exists(final))

    def _publish(self, incoming: str, final: str, *, replace: bool) -> None:
        """Give a complete file its name; only one that was found damaged is replaced."""
        try:
            if replace:
                fsops.rename(incoming, final)
            else:
                fsops.publish(incoming, final)
        except BaseException:
            with contextlib.suppress(OSError):
                fsops.remove(incoming)
            raise

    def _check(self) -> None:
        """Refuse a directory that is not a remote store, such as an empty mount point."""
        marker = os.path.join(self._path, MARKER)
        try:
            with open(marker, "rb") as file:
                text = file.read(64)
        except (FileNotFoundError, NotADirectoryError):
            raise RemoteError(
                f"no remote store in {self._path!r}: it has no file '{MARKER}'",
                hint="mount the file system it is on; 'git coral remote add' makes a new one",
            ) from None
        except OSError as error:
            raise remote_os_error(error, f"read {marker!r}") from error
        if text == MARKER_TEXT:
            return
        if text.startswith(b"coral directory "):
            raise FormatVersionError(
                f"the remote store {self._path!r} has an unknown version", hint="install a newer coral-git"
            )
        raise IntegrityError(f"the file {marker!r} does not name a remote store")

    def _names(self, folder: str, suffix: str) -> set[PackId]:
        path = os.path.join(self._path, folder)
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise remote_os_error(error, f"list {path!r}") from error
        ids = (parse_id(name.removesuffix(suffix)) for name in names if name.endswith(suffix))
        return {PackId(identifier) for identifier in ids if identifier is not None}

    def _sweep(self, folder: str) -> None:
        """Remove what pushes that were killed long ago left behind."""
        oldest = time.time() - _ABANDONED_SECONDS
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another push may sweep at the same time
                    if entry.name.startswith(f"{_INCOMING}-") and entry.stat().st_mtime < oldest:
                        fsops.remove(entry.path)

    def _sync(self, folder: str) -> None:
        if self._fsync:
            fsops.sync_directory(os.path.join(self._path, folder))

    def _incoming(self, folder: str) -> str:
        return os.path.join(self._path, folder, fsops.unique_name(_INCOMING))

    def _pack_path(self, pack: PackId) -> str:
        return os.path.join(self._path, "packs", pack.hex() + _PACK)

    def _index_path(self, pack: PackId) -> str:
        return os.path.join(self._path, "idx", pack.hex() + _INDEX)

    def _missing(self, pack: PackId) -> RemoteError:
        return RemoteError(f"the remote store {self._path!r} has no pack {pack.hex()}")
