"""Gathers the tensors of a file whose index has names that may be anything."""

from __future__ import annotations

from coral_git.formats.base import MAX_TENSORS, NotThisFormat, TensorSegment, in_file_order
from coral_git.limits import Limits
from coral_git.types import DTYPES, tensor_bytes

_NUMBER_BYTES = 16
_NAMELESS = "tensor"


class Names:
    """Gives names that are all different: the second one of a name has ``#2`` after it, and so on."""

    def __init__(self, limits: Limits) -> None:
        self.longest = limits.name_bytes - _NUMBER_BYTES
        self._room = limits.header_bytes
        self._uses: dict[str, int] = {}

    def take(self, wanted: str) -> str:
        """A name that was not given before: the one that is wanted, cut to its longest, else numbered.

        Raises:
            NotThisFormat: the names together are longer than a header may be.
        """
        wanted = wanted.encode()[: self.longest].decode("utf-8", "ignore") or _NAMELESS
        name = wanted
        while name in self._uses:
            self._uses[wanted] += 1
            name = f"{wanted}#{self._uses[wanted]}"
        self._uses[name] = 1
        self._room -= len(name)
        if self._room < 0:
            raise NotThisFormat("the names of the tensors are too long")
        return name


class Segments:
    """The tensors that were found so far.

    Args:
        limits: the caps.
    """

    def __init__(self, limits: Limits) -> None:
        self._names = Names(limits)
        self._rank = limits.rank
        self._found: list[TensorSegment] = []

    def add(self, name: str, dtype: str | None, shape: tuple[int, ...], offset: int, length: int) -> None:
        """Note a tensor.

        Args:
            name: what it is called; another one of this name may be there already.
            dtype: its data type as manifests name it, or None where they have no name for it.
            shape: its dimensions. Where they do not amount to the length, it is seen as a row of bytes.
            offset: the byte of the file it starts at.
            length: its bytes.

        Raises:
            NotThisFormat: there are too many tensors, or their names are too long.
        """
        known = DTYPES["U8" if dtype is None else dtype]
        odd = dtype is None or len(shape) > self._rank or max(shape, default=0) >> 63
        if odd or tensor_bytes(known, shape) != length:
            known, shape = DTYPES["U8"], (length,)
        self._found.append(TensorSegment(self._names.take(name), known, shape, offset, length))
        if len(self._found) > MAX_TENSORS:
            raise NotThisFormat("too many tensors")

    def in_file_order(self) -> tuple[TensorSegment, ...]:
        """All of them, in the order of their bytes.

        Raises:
            NotThisFormat: there are none, or they overlap.
        """
        if not self._found:
            raise NotThisFormat("there are no tensors")
        return in_file_order(self._found)
