"""Makes files of ``torch.save`` whole after tensors in them were overwritten: entries have checksums."""

from __future__ import annotations

from collections.abc import Sequence

from coral_git.formats.base import Layout, TensorSegment
from coral_git.formats.zip_checksums import mend_checksums


class TorchZipMender:
    """The mender of ``torch-zip`` files."""

    name = "torch-zip"

    def mend(self, fd: int, layout: Layout, changed: Sequence[TensorSegment]) -> None:
        """Put the CRC of every storage right that a changed tensor lies in.

        Raises:
            NotThisFormat: it is no sound zip file.
            IntegrityError: the place of a CRC cannot be found.
        """
        mend_checksums(fd, changed)
