"""A git remote as a remote store; ``docs/format/git-refs.md`` describes it.

Every pack and every index is, in parts, the tree of a commit without parents, under a ref of its own. The ids
of these commits follow from the bytes: a ref is only ever created, and to create it twice is no conflict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from coral_git.errors import GitError, IntegrityError, PolicyError, RemoteError
from coral_git.limits import MIB
from coral_git.remotes.address import GitAddress, UserRepository, read_user_repository
from coral_git.remotes.base import INDEX_BYTES_MAX, PackDownload, PackUpload, RemoteContext
from coral_git.remotes.commits import build_commits
from coral_git.remotes.fetched import FetchedFile, download_batches, fetch_refs, read_files
from coral_git.remotes.messages import escape_lines, redact, remote_os_error
from coral_git.remotes.publish import publish, upload_batches
from coral_git.remotes.scratch import FETCH, Scratch, is_wrong_format, open_scratch, push_name, push_targets
from coral_git.remotes.snapshot import Kind, RefNames
from coral_git.remotes.transfer import write_pack
from coral_git.types import PackId

TRANSFER_BYTES = 1024 * MIB
"""Bytes of packs in one push, at most; hosts refuse more than 2 GiB."""

_INDEXES_PER_FETCH = 256
_INDEX_BYTES_PER_FETCH = 256 * MIB
_OTHER_FORMAT = {"sha1": "sha256", "sha256": "sha1"}

Result = TypeVar("Result")


class GitRefsRemote:
    """A remote store on a git remote.

    Args:
        address: where the git remote is.
        context: the repository it serves.
        transfer_bytes: bytes of packs in one push, at most.
    """

    __slots__ = ("_address", "_context", "_format", "_names", "_transfer_bytes", "_user", "name", "url")

    def __init__(
        self, address: GitAddress, context: RemoteContext, *, transfer_bytes: int = TRANSFER_BYTES
    ) -> None:
        self._address = address
        self._context = context
        self._names = RefNames(context.ref_prefix)
        self._transfer_bytes = transfer_bytes
        self._user: UserRepository | None = None
        self._format = ""
        self.name = address.name
        self.url = redact(address.url)

    def list_packs(self) -> set[PackId]:
        """The packs whose ref and whose index's ref are there; one ``git ls-remote``."""
        refs = self._in_scratch("list", partial(self._refs, FETCH))
        found: dict[Kind, set[PackId]] = {"pack": set(), "idx": set()}
        for ref in refs:
            parsed = self._names.parse(ref)
            if parsed is not None:
                found[parsed[0]].add(parsed[1])
        return found["pack"] & found["idx"]

    def get_index(self, pack: PackId) -> bytes:
        """The index of one pack, as stored."""
        for _, index in self.get_indexes([pack]):
            return index
        raise self._missing([pack])

    def get_indexes(self, packs: Iterable[PackId]) -> Iterator[tuple[PackId, bytes]]:
        """The indexes of those packs that are there, many in one ``git fetch``."""
        remaining = list(packs)
        while remaining:
            batch = remaining[:_INDEXES_PER_FETCH]
            handled, indexes = self._in_scratch("fetch from", partial(self._indexes, batch))
            remaining = remaining[handled:]
            yield from indexes

    def get_pack(self, pack: PackId, incoming_path: str) -> None:
        """Fetch a pack into a new file and check its SHA-256 on the way."""
        self.get_packs([PackDownload(pack, incoming_path)])

    def get_packs(self, downloads: Sequence[PackDownload]) -> None:
        """Fetch packs; those known to be small share a ``git fetch``."""
        for batch in download_batches(downloads):
            self._in_scratch("fetch from", partial(self._packs, batch))

    def put(self, pack_path: str, index: bytes, pack: PackId) -> None:
        """Push a pack, then its index."""
        self.put_many([PackUpload(pack, pack_path, index)])

    def put_many(self, uploads: Sequence[PackUpload]) -> None:
        """Push packs in batches, the indexes of a batch after its packs, and ask whether all are there.

        A batch that was proven stays when a later one fails, so a repeated call goes on where this one ended.
        """
        for batch in upload_batches(uploads, self._transfer_bytes):
            self._in_scratch("push to", partial(self._push, batch))

    def _push(self, uploads: Sequence[PackUpload], scratch: Scratch) -> None:
        commits = build_commits(scratch, self._names, uploads)
        for number in range(len(push_targets(self._address))):
            target = push_name(number)
            publish(scratch, target, commits, partial(self._refs, target, scratch), self.name)

    def _indexes(self, packs: Sequence[PackId], scratch: Scratch) -> tuple[int, list[tuple[PackId, bytes]]]:
        """Fetch indexes; give how many packs were handled within the bound on memory, and the indexes."""
        files = self._fetch(scratch, "idx", packs)
        indexes: list[tuple[PackId, bytes]] = []
        total = 0
        for handled, pack in enumerate(packs):
            if pack not in files:
                continue
            length = self._check_length("index", pack, files[pack], INDEX_BYTES_MAX)
            total += length
            if indexes and total > _INDEX_BYTES_PER_FETCH:
                return handled, indexes
            indexes.append((pack, b"".join(files[pack].pieces(scratch))))
        return len(packs), indexes

    def _packs(self, downloads: Sequence[PackDownload], scratch: Scratch) -> None:
        files = self._fetch(scratch, "pack", [download.pack for download in downloads])
        absent = [download.pack for download in downloads if download.pack not in files]
        if absent:
            raise self._missing(absent)
        limit = self._context.limits.pack_max
        for download in downloads:
            file = files[download.pack]
            self._check_length("pack", download.pack, file, limit)
            origin = f"remote '{self.name}'"
            pieces = file.pieces(scratch)
            write_pack(pieces, download.path, download.pack, origin, limit, fsync=self._context.fsync)

    def _fetch(self, scratch: Scratch, kind: Kind, packs: Sequence[PackId]) -> dict[PackId, FetchedFile]:
        """Fetch refs of a kind and give the file of each; refs that the remote lacks are left out."""
        refs = {self._names.ref(kind, pack): pack for pack in packs}
        try:
            fetch_refs(scratch, list(refs))
        except GitError:
            there = self._refs(FETCH, scratch)
            if refs.keys() <= there.keys():
                raise
            refs = {ref: pack for ref, pack in refs.items() if ref in there}
            fetch_refs(scratch, list(refs))
        files = {}
        for (ref, pack), file in zip(refs.items(), read_files(scratch, list(refs)), strict=True):
            if file is None:
                raise IntegrityError(f"the ref '{ref}' of remote '{self.name}' does not hold numbered parts")
            files[pack] = file
        return files

    def _refs(self, remote: str, scratch: Scratch) -> dict[str, str]:
        """The refs of a remote below the prefix, with the ids they point at."""
        answer = scratch.git.run("ls-remote", "--refs", remote, *self._names.patterns())
        lines = (line.split("\t", 1) for line in answer.decode("utf-8", "replace").splitlines())
        return {ref: identifier for identifier, ref in lines if ref.startswith(self._names.prefix + "/")}

    def _in_scratch(self, verb: str, action: Callable[[Scratch], Result]) -> Result:
        """Run an action in a scratch repository of the hash that the remote has, and translate errors.

        Nobody tells beforehand which hash a remote has; git refuses the wrong one before any transfer.
        """
        try:
            try:
                return self._open(action)
            except GitError as error:
                if not is_wrong_format(error):
                    raise
            self._format = _OTHER_FORMAT[self._format]
            return self._open(action)
        except GitError as error:
            raise RemoteError(
                f"cannot {verb} remote '{self.name}': {escape_lines(error.message)}",
                hint=f"see whether this works: git ls-remote {self.name}",
            ) from error
        except OSError as error:
            raise remote_os_error(error, f"{verb} remote '{self.name}'") from error

    def _open(self, action: Callable[[Scratch], Result]) -> Result:
        if self._user is None:
            self._user = read_user_repository(self._context.git)
            self._format = self._user.object_format
        with open_scratch(self._context, self._address, self._user, self._format) as scratch:
            return action(scratch)

    def _check_length(self, what: str, pack: PackId, file: FetchedFile, limit: int) -> int:
        if file.length > limit:
            raise PolicyError(f"the {what} {pack.hex()} in remote '{self.name}' is longer than {limit} bytes")
        return file.length

    def _missing(self, packs: Sequence[PackId]) -> RemoteError:
        return RemoteError(f"remote '{self.name}' has no pack {packs[0].hex()}")
