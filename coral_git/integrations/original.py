"""Names of the original Coral for models, optimizers and random generators of torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from coral_git.api.repository import Repository
from coral_git.api.weights import WeightMetadata, WeightTensor
from coral_git.errors import UsageError
from coral_git.integrations.models import copied, load_tensors, save, state_of, unwrapped
from coral_git.integrations.rng import random_state
from coral_git.integrations.rng import set_random_state as set_generators


def save_model_to_coral(
    model: torch.nn.Module,
    repository: Repository,
    message: str,
    model_name: str | None = None,
    **metadata: Any,
) -> str:
    """Stage a model and commit it; gives the id of the commit.

    Args:
        model: on any device.
        repository: the repository.
        message: of the commit.
        model_name: a label of the commit.
        metadata: numbers become metrics, anything else a label ``name=value``.

    Raises:
        UsageError: nothing changed, or a name is none of a metric.
    """
    metrics = {name: float(value) for name, value in metadata.items() if _is_number(value)}
    labels = [f"{name}={value}" for name, value in metadata.items() if name not in metrics]
    return save(
        model, repository, message, metrics=metrics, tags=(*([model_name] if model_name else []), *labels)
    )


def load_model_from_coral(
    model: torch.nn.Module, repository: Repository, commit_ref: str | None = None
) -> bool:
    """Load a revision, HEAD by default, into a model; False where there is none, or no weights in it.

    Raises:
        UsageError: the weights do not fit the model.
        ObjectMissingError: an object cannot be had.
    """
    try:
        weights = repository.get_all_weights(commit_ref or "HEAD")
    except UsageError:
        return False
    load_tensors(model, [weight.source for weight in weights.values()], strict=True)
    return True


class PyTorchIntegration:
    """Conversions, as functions of a class."""

    @staticmethod
    def model_to_weights(model: torch.nn.Module) -> dict[str, WeightTensor]:
        """The parameters and buffers of a model by name, copied."""
        state, name = copied(state_of(model)), type(unwrapped(model)).__name__
        kinds = {path: type(layer).__name__ for path, layer in unwrapped(model).named_modules()}
        weights = {}
        for path, value in state.items():
            plain = WeightTensor(value, path)
            metadata = WeightMetadata(
                path,
                plain.metadata.shape,
                plain.metadata.dtype,
                layer_type=kinds.get(path.rpartition(".")[0]),
                model_name=name,
            )
            weights[path] = WeightTensor(value, metadata=metadata)
        return weights

    @staticmethod
    def weights_to_model(weights: Mapping[str, WeightTensor], model: torch.nn.Module) -> None:
        """Copy weights into a model; names that only one of the two has are left alone.

        Raises:
            UsageError: a shape differs; nothing was changed then.
        """
        load_tensors(model, [one.source._replace(name=name) for name, one in weights.items()], strict=False)

    @staticmethod
    def save_optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
        """The state of an optimizer; its tensors are not copied."""
        return optimizer.state_dict()

    @staticmethod
    def load_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Set the state of an optimizer."""
        optimizer.load_state_dict(state)

    @staticmethod
    def save_scheduler_state(scheduler: Any) -> dict[str, Any]:
        """The state of a scheduler."""
        return dict(scheduler.state_dict())

    @staticmethod
    def load_scheduler_state(scheduler: Any, state: dict[str, Any]) -> None:
        """Set the state of a scheduler."""
        scheduler.load_state_dict(state)

    @staticmethod
    def get_random_state() -> dict[str, Any]:
        """The random generators of torch, numpy and Python."""
        return random_state()

    @staticmethod
    def set_random_state(state: dict[str, Any]) -> None:
        """Set the random generators as ``get_random_state`` found them."""
        set_generators(state)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
