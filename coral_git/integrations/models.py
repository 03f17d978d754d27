"""Models of torch and stored weights: save, load, and the parts that checkpoints are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from coral_git.api.arrays import read_all, tensor_data, torch_of
from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.formats.safetensors_writer import safetensors_header
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import printable
from coral_git.pipeline.memory_source import MemorySource
from coral_git.pipeline.tensors import stored_tensors
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.printing import bring
from coral_git.repository.spec import stored_manifest

try:
    import torch
except ImportError as error:
    raise ImportError("coral_git.integrations.pytorch needs torch: pip install torch") from error


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The model itself: without what ``DataParallel``, DDP and ``torch.compile`` put around it."""
    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in ("DataParallel", "DistributedDataParallel"):
            inner = model.module
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


def state_of(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name, as the model itself calls them; nothing is copied."""
    return {name: value for name, value in unwrapped(model).state_dict().items() if torch.is_tensor(value)}


def save(
    model: torch.nn.Module,
    repo: Repository,
    message: str = "save the model",
    *,
    metrics: Mapping[str, float] | None = None,
    tags: tuple[str, ...] = (),
    file: str | None = None,
) -> str:
    """Stage the parameters and buffers of a model, and commit them; gives the id of the commit.

    Raises:
        UsageError: nothing changed, or coral-git does not keep the file.
    """
    repo.stage_weights(state_of(model), file=file, replace=True)
    return repo.commit(message, metrics=metrics, tags=tags).commit_hash


def load(
    model: torch.nn.Module,
    repo: Repository,
    *,
    ref: str = "HEAD",
    file: str | None = None,
    strict: bool = True,
) -> list[str]:
    """Load a revision into a model, tensor by tensor: memory is that of the largest one.

    Args:
        model: gets the values, on whatever device and in whatever dtype it is.
        repo: the repository.
        ref: any revision.
        file: the weight file, instead of that of the repository.
        strict: whether every tensor of the model has to be there, and no others.

    Returns:
        The names that only one of the two has.

    Raises:
        UsageError: there is no such revision, a shape differs, or (``strict``) a name is missing.
    """
    workspace = Workspace.open(repo.path)
    try:
        manifest = stored_manifest(workspace, f"{ref}:{file or repo.file}")
        return load_stored(model, workspace, manifest, strict)
    finally:
        workspace.close()


load_into_model = load


def copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copies on the CPU, that the training does not change."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() if torch.is_tensor(value) else np.array(value)
        for name, value in tensors.items()
    }


def source_of(tensors: Mapping[str, Any]) -> MemorySource:
    """Tensors as the bytes of a safetensors file."""
    header, ordered = safetensors_header([tensor_data(name, value) for name, value in tensors.items()], {})
    return MemorySource(header, ordered)


def stored_torch(workspace: Workspace, manifest: Manifest) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of a stored file, one after the other."""
    wanted = tuple(part for one in manifest.tensors for part in one.objects)
    bring(workspace, wanted, "the checkpoint")
    for source in stored_tensors(manifest, workspace.store):
        yield source.name, torch_of(read_all(source), source.dtype, source.shape)


def load_stored(model: torch.nn.Module, workspace: Workspace, manifest: Manifest, strict: bool) -> list[str]:
    """Copy a stored file into a model, tensor by tensor; gives the names that only one of the two has.

    Raises:
        UsageError: a shape differs, or (``strict``) names do.
    """
    wanted = state_of(model)
    stored = {one.name: one for one in manifest.tensors}
    unlike = sorted(set(wanted) ^ set(stored))
    if strict and unlike:
        raise UsageError(
            f"model and file do not have the same tensors: {', '.join(map(printable, unlike[:5]))}",
            hint="strict=False loads what both have",
        )
    chosen = manifest._replace(tensors=tuple(one for one in manifest.tensors if one.name in wanted))
    for one in chosen.tensors:
        if one.shape != tuple(wanted[one.name].shape):
            raise UsageError(
                f"tensor '{printable(one.name)}' is {one.shape}, not {tuple(wanted[one.name].shape)}"
            )
    with torch.no_grad():
        for name, value in stored_torch(workspace, chosen):
            wanted[name].copy_(value)
    return unlike
