"""What a remote store is, and what it asks of git.

A remote store is a set of immutable packs, each with its index, named by the SHA-256 of the pack. Nothing in
it is ever changed or overwritten, so nothing has to be locked: publishing what is there already is success.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from coral_git.limits import DEFAULT_LIMITS, KIB, MIB, Limits
from coral_git.types import PackId

INDEX_BYTES_MAX = 64 * MIB
"""Length of an index of a remote store, at most; a longer one is refused before it is read."""

PIECE_BYTES = 256 * KIB
"""Length of the pieces in which packs are copied."""


@dataclass(frozen=True, slots=True)
class PackUpload:
    """One pack to publish.

    Attributes:
        pack: SHA-256 of the bytes of the pack.
        path: the file that holds these bytes.
        index: the bytes of its index.
    """

    pack: PackId
    path: str
    index: bytes


@dataclass(frozen=True, slots=True)
class PackDownload:
    """One pack to receive.

    Attributes:
        pack: SHA-256 of the bytes of the pack.
        path: the file to create; it must not exist.
        length: length of the pack in bytes where it is known (its index tells), else 0. Only a hint: small
            packs may share a request.
    """

    pack: PackId
    path: str
    length: int = 0


class RemoteStore(Protocol):
    """A place that holds packs for others.

    Every method may raise ``RemoteError`` (the place refused or could not be reached) and
    ``StorageFullError``. Nothing is remembered between calls: what the place has is asked anew each time.
    """

    @property
    def name(self) -> str:
        """What the user calls it; fit to be printed."""

    @property
    def url(self) -> str:
        """Where it is, without a password; fit to be printed."""

    def list_packs(self) -> set[PackId]:
        """The packs that are there complete, each with its index."""

    def get_index(self, pack: PackId) -> bytes:
        """The index of one pack, as stored; the reader of indexes checks it.

        Raises:
            RemoteError: the remote store has no such pack.
        """

    def get_indexes(self, packs: Iterable[PackId]) -> Iterator[tuple[PackId, bytes]]:
        """The indexes of many packs, in as few requests as possible and in any order.

        A pack that has vanished since it was listed is left out.
        """

    def get_pack(self, pack: PackId, incoming_path: str) -> None:
        """Write a pack to a new file and flush it; on any error the file is gone again.

        Raises:
            IntegrityError: what came is not what the name says.
            RemoteError: the remote store has no such pack.
        """

    def get_packs(self, downloads: Sequence[PackDownload]) -> None:
        """Receive many packs; files that were complete before an error stay."""

    def put(self, pack_path: str, index: bytes, pack: PackId) -> None:
        """Publish a pack, then its index; what is there already is success.

        Raises:
            IntegrityError: the file is not what ``pack`` says, or the place holds something else there.
        """

    def put_many(self, uploads: Sequence[PackUpload]) -> None:
        """Publish many packs. On return it is proven that all are there; after an error some may be."""


class GitRunner(Protocol):
    """Runs the git binary. The ``Git`` of :mod:`coral_git.git.command` is one."""

    def run(
        self,
        *args: str,
        input: bytes = b"",  # noqa: A002 - the name subprocess uses
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """Standard output of ``git <args>``.

        Args:
            args: the arguments after ``git``.
            input: what it reads on standard input.
            check: whether a failure is an error.
            env: variables to add to the environment.

        Raises:
            GitError: it failed and ``check`` is set; the message carries what git said.
        """


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """What a remote store may need of the repository it serves.

    Attributes:
        git: runs git in the repository of the user.
        scratch_git: gives a runner for another git directory, which exists already. It runs without the
            variables by which git tells a hook about the repository of the user, and with those that the
            user set (ssh command, ``-c``).
        store_root: the store; scratch repositories are made in it.
        ref_prefix: where packs live on a git remote.
        limits: the caps that apply.
        fsync: whether writes are flushed to the disk.
    """

    git: GitRunner
    scratch_git: Callable[[str], GitRunner]
    store_root: str
    ref_prefix: str = "refs/coral/store"
    limits: Limits = DEFAULT_LIMITS
    fsync: bool = True
