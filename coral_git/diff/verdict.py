"""What kind of change a file went through, in a few words: rules over what was found, the first that fits."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from coral_git.diff.model import Figures, FileDiff, Status, TensorDiff
from coral_git.manifest.escape import escape_name
from coral_git.pipeline.float_dtypes import is_float

_HEAD = re.compile(
    r"(^|[._/])(lm_head|head|heads|classifier|score|logits|qa_outputs|fc_out|output_projection|embed_out"
    r"|predictions|decoder_head|fc)($|[._/\d])",
    re.IGNORECASE,
)
_OPTIMIZER = re.compile(
    r"(^|[._/])(exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|optimizer|optim|opt_state"
    r"|adam_[mv])($|[._/\d])",
    re.IGNORECASE,
)
_NORM_OR_BIAS = re.compile(r"(norm|(^|[._/])ln|(^|[._/])bn\d*|batchnorm)[^/]*$|bias$", re.IGNORECASE)

_A_STEP = 1e-3
"""A change of all weights by less than this part of their norm is a step, not a training."""

_CAST = 2.0**-6
_PRUNED = 0.1
_ALL = 0.95


def verdict_of(diff: FileDiff) -> str:
    """The verdict on a file."""
    if diff.new is None:
        return "removed"
    if diff.old is None:
        return "new file"
    if diff.new.tensor_count is None or diff.old.tensor_count is None:
        return f"no tensors known, {_percent(diff.raw_bytes, diff.new.size)} of the bytes are new"
    if not diff.tensors:
        return "identical weights, other metadata"
    return next(filter(None, (rule(diff) for rule in _RULES)))


def _structure(diff: FileDiff) -> str:
    """Tensors only came, went, or have other names."""
    found = Counter(tensor.status for tensor in diff.tensors)
    words = {Status.RENAMED: "renamed", Status.ADDED: "added", Status.REMOVED: "removed"}
    if set(found) - set(words):
        return ""
    if set(found) == {Status.RENAMED}:
        return "tensors renamed"
    return ", ".join(
        f"{found[one]} tensor{'s' * (found[one] != 1)} {words[one]}" for one in words if found[one]
    )


def _cast(diff: FileDiff) -> str:
    """All that changed has another dtype, and nearly the same values."""
    cast = [tensor for tensor in diff.tensors if tensor.status == Status.RETYPED]
    if not cast or any(_faces(tensor) and tensor.status != Status.RETYPED for tensor in diff.tensors):
        return ""
    kinds = Counter((one.old.dtype.name, one.new.dtype.name) for one in cast if one.old and one.new)
    old, new = kinds.most_common(1)[0][0]
    relative = _relative(cast)
    changed = relative is not None and relative > _CAST
    return f"dtype cast {old} → {new}{', and other values' if changed else ''}"


def _grown(diff: FileDiff) -> str:
    """A first dimension grew or shrank, as a vocabulary does."""
    for tensor in diff.tensors:
        if tensor.status == Status.RESHAPED and tensor.old is not None and tensor.new is not None:
            old, new = tensor.old.shape, tensor.new.shape
            if old[1:] == new[1:] and old and new and len(new) > 1:
                return f"first dimension of '{escape_name(tensor.name)}' from {old[0]} to {new[0]}"
    return "tensors reshaped" if any(one.status == Status.RESHAPED for one in diff.tensors) else ""


def _pruned(diff: FileDiff) -> str:
    """Many values became zero."""
    found = list(_measured(diff.tensors))
    values = sum(one.values for one in found)
    zeros = sum(one.zeros or 0 for one in found)
    if not values or zeros - sum(one.old_zeros or 0 for one in found) < _PRUNED * values:
        return ""
    return f"pruned {_percent(zeros, values)}"


def _optimizer(diff: FileDiff) -> str:
    """The state of an optimizer changed, or all weights did, but hardly."""
    if any(_OPTIMIZER.search(tensor.name) for tensor in diff.tensors if tensor.status == Status.CHANGED):
        return "optimizer step"
    relative = _relative(diff.tensors)
    return "optimizer step" if relative is not None and relative < _A_STEP and _share(diff) >= _ALL else ""


def _low_rank(diff: FileDiff) -> str:
    """Every matrix that changed did so by a matrix of low rank."""
    ranks = [one.figures.rank for one in diff.tensors if one.figures and _is_matrix(one)]
    known = [rank for rank in ranks if rank is not None]
    if not known or len(known) < len(ranks):
        return ""
    return f"low-rank update, LoRA-like (rank ≤ {max(known)})"


def _some_kind(diff: FileDiff) -> str:
    """What changed is all of one kind."""
    changed = [tensor for tensor in diff.tensors if _faces(tensor)]
    if not changed or diff.same == 0:
        return ""
    if all(_HEAD.search(tensor.name) for tensor in changed):
        return "head only"
    if all(_NORM_OR_BIAS.search(tensor.name) for tensor in changed):
        return "norms and biases only"
    if not any(tensor.new is not None and is_float(tensor.new.dtype) for tensor in changed):
        return "integers only"
    return ""


def _fine_tune(diff: FileDiff) -> str:
    """All or some weights changed."""
    if _share(diff) >= _ALL:
        return "full fine-tune" if any(_measured(diff.tensors)) else "all weights changed"
    changed = sum(map(_faces, diff.tensors))
    return f"partial fine-tune, {changed} of {diff.same + changed} tensors"


_RULES: Sequence[Callable[[FileDiff], str]] = (
    _structure,
    _cast,
    _grown,
    _pruned,
    _low_rank,
    _some_kind,
    _optimizer,
    _fine_tune,
)


def _faces(tensor: TensorDiff) -> bool:
    return tensor.old is not None and tensor.new is not None and tensor.status != Status.RENAMED


def _is_matrix(tensor: TensorDiff) -> bool:
    return tensor.new is not None and len(tensor.new.shape) == 2 and is_float(tensor.new.dtype)


def _measured(tensors: Iterable[TensorDiff]) -> Iterable[Figures]:
    """Figures of floats."""
    return (one.figures for one in tensors if one.figures and one.new is not None and is_float(one.new.dtype))


def _relative(tensors: Iterable[TensorDiff]) -> float | None:
    """Norm of the change of all floats by the norm of the old ones; None where nothing was measured."""
    found = list(_measured(tensors))
    norm = math.sqrt(sum((one.norm or 0.0) ** 2 for one in found))
    delta = math.sqrt(sum((one.delta_norm or 0.0) ** 2 for one in found))
    return delta / norm if norm else None


def _share(diff: FileDiff) -> float:
    """The share of the bytes of float tensors, of those in both versions, whose tensors changed."""
    known = {tensor.name for tensor in diff.old.tensors} if diff.old else set()
    tensors = diff.new.tensors if diff.new else ()
    both = {one.name: one.nbytes for one in tensors if one.name in known and is_float(one.dtype)}
    changed = sum(both.get(one.name, 0) for one in diff.tensors if _faces(one))
    return changed / sum(both.values()) if any(both.values()) else 0.0


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
