"""A repository on this machine as a place to fetch from: its own store, read where it lies.

Somebody clones from the folder of another work tree. Nothing was pushed there, so what its manifests name is
in its store alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from coral_git.errors import GitError, NotARepositoryError, RemoteError
from coral_git.git.command import Git, clean_environment
from coral_git.pipeline.workspace import STORE_NAME
from coral_git.remotes.base import INDEX_BYTES_MAX, PackDownload, PackUpload
from coral_git.remotes.messages import escape, remote_os_error
from coral_git.remotes.transfer import read_pieces, write_pack
from coral_git.store.layout import Layout, check_format, parse_pack_name
from coral_git.types import PackId


class NeighbourStore:
    """The store of another repository, read only.

    Args:
        layout: where it is.
        name: what the user calls the repository.
        pack_max: a longer pack is refused.
        fsync: whether what is copied is flushed.
    """

    __slots__ = ("_fsync", "_layout", "_pack_max", "name", "url")

    def __init__(self, layout: Layout, name: str, pack_max: int, *, fsync: bool) -> None:
        self._layout = layout
        self._pack_max = pack_max
        self._fsync = fsync
        self.name = escape(name)
        self.url = escape(layout.root)

    def list_packs(self) -> set[PackId]:
        """The packs that have an index."""
        try:
            names = set(os.listdir(self._layout.packs))
        except OSError as error:
            raise remote_os_error(error, f"list {self._layout.packs!r}") from error
        packs = (parse_pack_name(name) for name in names)
        return {pack for pack in packs if pack is not None and pack.hex() + ".idx" in names}

    def get_index(self, pack: PackId) -> bytes:
        """The index of one pack."""
        for _, index in self.get_indexes([pack]):
            return index
        raise self._missing(pack)

    def get_indexes(self, packs: Iterable[PackId]) -> Iterator[tuple[PackId, bytes]]:
        """The indexes of those packs that are there."""
        for pack in packs:
            path = self._layout.index_path(pack)
            try:
                with open(path, "rb") as file:
                    yield pack, file.read(INDEX_BYTES_MAX)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise remote_os_error(error, f"read {path!r}") from error

    def get_pack(self, pack: PackId, incoming_path: str) -> None:
        """Copy a pack and check its SHA-256 on the way."""
        path = self._layout.pack_path(pack)
        try:
            origin = repr(self._layout.root)
            write_pack(read_pieces(path), incoming_path, pack, origin, self._pack_max, fsync=self._fsync)
        except FileNotFoundError:
            raise self._missing(pack) from None
        except OSError as error:
            raise remote_os_error(error, f"copy {path!r}") from error

    def get_packs(self, downloads: Sequence[PackDownload]) -> None:
        """Copy packs one after the other."""
        for download in downloads:
            self.get_pack(download.pack, download.path)

    def put(self, pack_path: str, index: bytes, pack: PackId) -> None:
        """Refuse: objects reach a repository by a push to it."""
        self.put_many([PackUpload(pack, pack_path, index)])

    def put_many(self, uploads: Sequence[PackUpload]) -> None:
        """Refuse: objects reach a repository by a push to it."""
        raise RemoteError(f"the store of '{self.name}' is only read", hint=f"git coral push {self.name}")

    def _missing(self, pack: PackId) -> RemoteError:
        return RemoteError(f"the store of '{self.name}' has no pack {pack.hex()}")


def find_neighbour(path: str, name: str, pack_max: int, *, fsync: bool) -> NeighbourStore | None:
    """The store of the repository at a path; None where there is none.

    Args:
        path: a work tree or a bare repository.
        name: what the user calls it.
        pack_max: a longer pack is refused.
        fsync: whether what is copied is flushed.
    """
    if not os.path.isdir(path):
        return None
    git = Git(path, clean_environment())
    try:
        answer = git.run("rev-parse", "--path-format=absolute", "--git-common-dir")
        layout = Layout(os.path.join(os.fsdecode(answer.rstrip(b"\n")), STORE_NAME))
        check_format(layout)
    except (GitError, NotARepositoryError):
        return None
    return NeighbourStore(layout, name, pack_max, fsync=fsync)
