"""What tensors that git keeps by key have in common, here and on a remote."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from coral_git.api.weight_store import WeightStore, as_weight, storage_info, weight_key
from coral_git.api.weights import WeightMetadata, WeightTensor
from coral_git.api.writing import Writing
from coral_git.errors import IntegrityError, ObjectMissingError
from coral_git.manifest.entries import Manifest
from coral_git.manifest.model import object_ids
from coral_git.pipeline.closure import find_incomplete
from coral_git.pipeline.decode import expanded
from coral_git.pipeline.history import read_blob
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.kept_weights import Change, Kept, NewWeight, check_key, store_weights
from coral_git.types import ObjectId

_TEXTS = ("layer_type", "model_name")
_INFO = "compression_info"


class KeptStore(WeightStore):
    """Tensors whose manifests are in a tree of git.

    Args:
        repo: a ``Repository``, or the path of one.
    """

    def __init__(self, repo: Writing | str | os.PathLike[str]) -> None:
        self._repo = repo if isinstance(repo, Writing) else None
        self._own = None if isinstance(repo, Writing) else Workspace.open(os.fspath(repo))

    @property
    def _workspace(self) -> Workspace:
        if self._own is not None:
            return self._own
        assert self._repo is not None
        return self._repo.workspace

    @abstractmethod
    def _kept(self) -> Kept:
        """What is kept now."""

    @abstractmethod
    def _change(self, change: Change) -> None:
        """Change what is kept, whatever others do meanwhile."""

    @abstractmethod
    def _fetch(self, wanted: Iterable[ObjectId]) -> list[ObjectId]:
        """Bring objects; gives those that cannot be had."""

    def store(self, weight: Any, hash_key: str | None = None) -> str:
        """As ``WeightStore.store``: its objects first, then the ref that keeps them.

        Raises:
            UsageError: safetensors has no such dtype, or the key is none.
            CoralError: it cannot be written; what was kept is as it was.
        """
        given = as_weight(weight)
        key = check_key(weight_key(given) if hash_key is None else hash_key)
        self._keep({key: given}, replace=hash_key is not None)
        return key

    def store_batch(self, weights: Mapping[str, Any]) -> dict[str, str]:
        """As ``WeightStore.store_batch``: all of them are kept at once, or none."""
        given = {name: as_weight(value, name) for name, value in weights.items()}
        keys = {name: weight_key(weight) for name, weight in given.items()}
        self._keep({keys[name]: weight for name, weight in reversed(given.items())}, replace=False)
        return keys

    def load(self, hash_key: str) -> WeightTensor | None:
        """The tensor of a key; its objects are fetched now, its values read when they are needed."""
        return self.load_batch([hash_key]).get(hash_key)

    def load_batch(self, hash_keys: Iterable[str]) -> dict[str, WeightTensor]:
        """The tensors of several keys, by key, fetched at once; those that there are.

        Raises:
            ObjectMissingError: an object cannot be had.
        """
        found = self._manifests(self._kept(), hash_keys)
        self._bring({part: key for key, one in found.items() for part in object_ids(one)})
        store = self._workspace.store
        return {
            key: WeightTensor(stored=stored_tensors(one, store)[0], metadata=self._metadata(one))
            for key, one in found.items()
        }

    def exists(self, hash_key: str) -> bool:
        """Whether a tensor is kept by a key."""
        return hash_key in self._kept().blobs

    def delete(self, hash_key: str) -> bool:
        """Keep a tensor no longer; whether there was one.

        What nothing else names is freed by ``git coral gc``, once git has pruned its manifest.
        """
        was_there = False

        def without(blobs: Mapping[str, str]) -> Mapping[str, str]:
            nonlocal was_there
            was_there = was_there or hash_key in blobs
            return {key: blob for key, blob in blobs.items() if key != hash_key}

        self._change(without)
        return was_there

    def list_weights(self) -> list[str]:
        """The keys, sorted."""
        return sorted(self._kept().blobs)

    def get_metadata(self, hash_key: str) -> WeightMetadata | None:
        """What is known of a tensor besides its values; None where there is none of that key."""
        found = self._manifests(self._kept(), [hash_key]).get(hash_key)
        return None if found is None else self._metadata(found)

    def get_storage_info(self) -> dict[str, Any]:
        """As ``WeightStore.get_storage_info``; objects that are not here count as nothing stored."""
        kept = self._kept()
        manifests = self._manifests(kept, kept.blobs)
        wanted = dict.fromkeys(part for one in manifests.values() for part in object_ids(one))
        stored = self._workspace.store.stored_lengths(wanted)
        raw = sum(one.tensors[0].nbytes for one in manifests.values())
        return storage_info(len(kept.blobs), raw, sum(stored.values()))

    def close(self) -> None:
        """End child processes and close files; a ``Repository`` that was given stays open."""
        if self._own is not None:
            self._own.close()

    def _keep(self, weights: Mapping[str, WeightTensor], *, replace: bool) -> None:
        """Store tensors, and keep them by their keys."""
        known = {} if replace else self._kept().blobs
        fresh = {
            key: NewWeight(one.source._replace(name=one.name or key), _texts(one.metadata))
            for key, one in weights.items()
            if key not in known or not self._is_whole(known[key])
        }
        made = dict(zip(fresh, store_weights(self._workspace, list(fresh.values())), strict=True))
        self._change(lambda blobs: {**blobs, **made} if replace else {**made, **blobs})

    def _manifests(self, kept: Kept, keys: Iterable[str]) -> dict[str, Manifest]:
        """The manifests of keys that there are.

        Raises:
            IntegrityError: what is kept is no manifest of a tensor.
        """
        found = {}
        for key in dict.fromkeys(keys):
            if key in kept.blobs:
                manifest = read_blob(self._workspace, kept.blobs[key])
                if manifest is None or len(manifest.tensors) != 1:
                    raise IntegrityError(f"what is kept as {key!a} is no tensor", hint="store it again")
                found[key] = expanded(manifest, self._workspace.store)
        return found

    def _metadata(self, manifest: Manifest) -> WeightMetadata:
        entry = manifest.tensors[0]
        self._bring(dict.fromkeys(manifest.rest, manifest.tensors[0].name))
        store = self._workspace.store
        said = _said(b"".join(store.read(part, store.limits.header_bytes) for part in manifest.rest))
        return WeightMetadata(
            entry.name,
            entry.shape,
            entry.dtype.name,
            layer_type=said.get("layer_type"),
            model_name=said.get("model_name"),
            compression_info=said.get(_INFO, {}),
            hash=entry.objects[0].hex() if len(entry.objects) == 1 else None,
        )

    @abstractmethod
    def _is_whole(self, blob: str) -> bool:
        """Whether the objects of a tensor that is kept are where they belong."""

    def _bring(self, wanted: Mapping[ObjectId, str]) -> None:
        """Have objects here, each named by the key of its tensor."""
        missing = find_incomplete(self._workspace.store, tuple(wanted))
        if missing and (missing := self._fetch(missing)):
            keys = sorted({wanted[one] for one in missing if one in wanted}) or sorted(set(wanted.values()))
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise ObjectMissingError(
                f"the values of the tensor {keys[0]!a}{more} cannot be had",
                hint="whoever has them: store them again",
            )


def _texts(metadata: WeightMetadata) -> dict[str, str]:
    """What is known besides the values, as the header of a file takes it."""
    known = asdict(metadata)
    texts = {name: str(known[name]) for name in _TEXTS if known[name] is not None}
    return texts | ({_INFO: json.dumps(known[_INFO])} if known[_INFO] else {})


def _said(header: bytes) -> dict[str, Any]:
    """What the header of a file says besides the values.

    Raises:
        IntegrityError: it is no such header.
    """
    try:
        said = dict(json.loads(header[8:]).get("__metadata__", {}))
        if _INFO in said:
            said[_INFO] = dict(json.loads(said[_INFO]))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError("the header of a tensor cannot be read", hint="store it again") from error
    return said
