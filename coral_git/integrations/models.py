"""Models of torch and stored weights: save, load, and the parts that checkpoints are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from coral_git.api.arrays import read_all, torch_of
from coral_git.api.repository import Repository
from coral_git.errors import UsageError
from coral_git.formats.base import TensorData
from coral_git.manifest.escape import printable

_COMPILED = "_orig_mod."
"""What ``torch.compile`` puts into the names of a layer that it has compiled."""


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
    state = unwrapped(model).state_dict()
    return {name.replace(_COMPILED, ""): value for name, value in state.items() if torch.is_tensor(value)}


def save(
    model: torch.nn.Module,
    repo: Repository,
    message: str = "save the model",
    *,
    metrics: Mapping[str, float] | None = None,
    tags: tuple[str, ...] = (),
    tag: str = "",
    branch: str = "",
    push_to: str = "",
    file: str | None = None,
) -> str:
    """Stage the parameters and buffers of a model, and commit them; gives the id of the commit.

    Args:
        model: on any device.
        repo: the repository.
        message: of the commit.
        metrics: values by name.
        tags: labels of the commit.
        tag: a tag of git that the commit gets; empty for none.
        branch: a branch that is made for it and checked out; empty for the one that is.
        push_to: a remote that the branch is pushed to, weights first; empty for none.
        file: the weight file, instead of that of the repository.

    Raises:
        UsageError: nothing changed, or coral-git does not keep the file.
        GitError: git refuses, e.g. because there is such a branch.

    Example:
        >>> import tempfile
        >>> repo = Repository(tempfile.mkdtemp(), init=True)
        >>> model = torch.nn.Linear(3, 2)
        >>> commit = save(model, repo, "base", metrics={"loss": 0.5})
        >>> load(model, repo, ref=commit)
        []
    """
    if branch:
        repo.create_branch(branch)
        repo.checkout(branch)
    repo.stage_weights(state_of(model), file=file, replace=True)
    commit = repo.commit(message, metrics=metrics, tags=tags).commit_hash
    if tag:
        repo.tag_version(tag, message, metrics=metrics)
    if push_to:
        repo.push(push_to)
    return commit


def load(
    model: torch.nn.Module,
    repo: Repository,
    *,
    ref: str = "HEAD",
    file: str | None = None,
    strict: bool = True,
) -> list[str]:
    """Load a revision into a model, tensor by tensor: memory is that of the largest one.

    Only what this revision needs is fetched. Before the first value is copied, names and shapes are compared.

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
        ObjectMissingError: an object cannot be had.
    """
    weights = repo.get_all_weights(ref, file=file)
    return load_tensors(model, [weight.source for weight in weights.values()], strict=strict)


load_into_model = load


def copied(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """Copies on the CPU, that the training does not change; what shares its values shares its copy.

    Raises:
        UsageError: a tensor is split over several processes, sparse, quantized, or without values.
    """
    copies: dict[tuple[object, ...], Any] = {}
    for name, value in tensors.items():
        if hasattr(value, "full_tensor"):
            raise UsageError(
                f"tensor '{printable(name)}' is split over several processes",
                hint="save it with coral_git.integrations.dcp",
            )
        if torch.is_tensor(value) and (value.layout != torch.strided or value.is_meta or value.is_quantized):
            raise UsageError(f"tensor '{printable(name)}' is no plain tensor, so it cannot be kept")
    return {name: _copy(value, copies) for name, value in tensors.items()}


def _copy(value: Any, copies: dict[tuple[object, ...], Any]) -> Any:
    if not torch.is_tensor(value):
        return np.array(value)
    value = value.detach().resolve_conj().resolve_neg()
    key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
    if value.numel() == 0 or key not in copies:
        copies[key] = value.to("cpu", copy=True, memory_format=torch.contiguous_format), value
    return copies[key][0]


def as_torch(source: TensorData) -> torch.Tensor:
    """A stored tensor, read; its bytes were compared with its ids."""
    return torch_of(read_all(source), source.dtype, source.shape)


def load_tensors(model: torch.nn.Module, stored: Sequence[TensorData], *, strict: bool) -> list[str]:
    """Copy stored tensors into a model, one after the other; gives the names that only one of the two has.

    Raises:
        UsageError: a shape differs, or (``strict``) names do; nothing was changed then.
    """
    unlike = check_tensors(model, stored, strict=strict)
    wanted = state_of(model)
    with torch.no_grad():
        for one in stored:
            if one.name in wanted:
                wanted[one.name].copy_(as_torch(one))
    return unlike


def check_tensors(model: torch.nn.Module, stored: Sequence[TensorData], *, strict: bool) -> list[str]:
    """See whether stored tensors fit a model; gives the names that only one of the two has.

    Raises:
        UsageError: a shape differs, or (``strict``) names do.
    """
    wanted = state_of(model)
    unlike = sorted(set(wanted) ^ {one.name for one in stored})
    if strict and unlike:
        raise UsageError(
            f"model and file do not have the same tensors: {', '.join(map(printable, unlike[:5]))}",
            hint="strict=False loads what both have",
        )
    for one in stored:
        if one.name in wanted and one.shape != tuple(wanted[one.name].shape):
            raise UsageError(
                f"tensor '{printable(one.name)}' is {one.shape}, not {tuple(wanted[one.name].shape)}"
            )
    return unlike
