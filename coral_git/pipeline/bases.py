"""Which stored object a part is probably a small change of.

The previous version of the path is asked: for a tensor, the same part of the tensor of that name; for
the bytes between the tensors, the same part of theirs; for a chunk, the chunk at the same place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from coral_git.manifest.model import Manifest
from coral_git.types import ObjectId


class PreviousVersion:
    """The objects of an earlier, expanded manifest, by what they were."""

    def __init__(self, manifest: Manifest) -> None:
        self._rest = manifest.rest
        self._tensors = {tensor.name: tensor.objects for tensor in manifest.tensors}
        self._chunks = tuple(chunk.object_id for chunk in manifest.chunks)

    def rest_part(self, index: int) -> ObjectId | None:
        """The part ``index`` of the bytes between the tensors."""
        return self._rest[index] if index < len(self._rest) else None

    def tensor_part(self, name: str, index: int) -> ObjectId | None:
        """The part ``index`` of the tensor ``name``."""
        objects = self._tensors.get(name, ())
        return objects[index] if index < len(objects) else None

    def chunk(self, index: int) -> ObjectId | None:
        """The chunk at a position."""
        return self._chunks[index] if index < len(self._chunks) else None


class BaseFinder:
    """Candidates from several previous versions, the most recent first, and from other files.

    Args:
        manifests: the previous versions, expanded.
        elsewhere: gives part ``number`` of the tensors of a name in other files; None where only the
            previous versions are to be asked.
    """

    def __init__(
        self, manifests: Iterable[Manifest], elsewhere: Callable[[str, int], Sequence[ObjectId]] | None
    ) -> None:
        self._versions = [PreviousVersion(manifest) for manifest in manifests]
        self._elsewhere = elsewhere

    @property
    def searches(self) -> bool:
        """Whether other places are asked than the previous versions."""
        return self._elsewhere is not None

    def namesakes(self, name: str, index: int) -> Sequence[ObjectId]:
        """Candidates for a part of a tensor in other files; slow when it is asked first."""
        return self._elsewhere(name, index) if self._elsewhere is not None else ()

    def rest_part(self, index: int) -> tuple[ObjectId, ...]:
        """Candidates for a part of the bytes between the tensors."""
        return _present(version.rest_part(index) for version in self._versions)

    def tensor_part(self, name: str, index: int) -> tuple[ObjectId, ...]:
        """Candidates for a part of a tensor."""
        return _present(version.tensor_part(name, index) for version in self._versions)

    def chunk(self, index: int) -> tuple[ObjectId, ...]:
        """Candidates for a chunk of a file that is no known format."""
        return _present(version.chunk(index) for version in self._versions)


def _present(candidates: Iterable[ObjectId | None]) -> tuple[ObjectId, ...]:
    return tuple(dict.fromkeys(candidate for candidate in candidates if candidate is not None))
