"""The random generators of a training."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np


def random_state() -> dict[str, Any]:
    """The random generators of numpy and Python, and of torch (CPU and CUDA) where the program uses it."""
    state: dict[str, Any] = {"numpy": np.random.get_state(), "python": random.getstate()}
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set the random generators as ``random_state`` found them."""
    np.random.set_state(tuple(state["numpy"]))
    random.setstate(state["python"])
    if "torch" in state:
        import torch

        torch.set_rng_state(state["torch"])
        if "cuda" in state and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda"])
