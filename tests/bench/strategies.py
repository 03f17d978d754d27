"""Size and speed of every strategy beside ``auto``; ``codecs.py --strategies`` prints them."""

from __future__ import annotations

import time
from collections.abc import Sequence

import ml_dtypes
import numpy as np
from choices import Tensor

from coral_git import DeltaConfig, DeltaEncoder, DeltaType

NUMPY_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
ROUNDS = 3


def print_strategies(label: str, tensors: Sequence[Tensor]) -> None:
    """Encode and decode all tensors with every strategy; times are CPU times, the best of some rounds.

    Args:
        label: the name of the pair.
        tensors: those that have to be encoded; the ones with a base are used.
    """
    pairs = [
        tuple(np.frombuffer(data, NUMPY_DTYPES[one.dtype]) for data in (one.raw, one.base))
        for one in tensors
        if one.base and one.dtype in NUMPY_DTYPES
    ]
    if not pairs:
        return
    results = {one: _measure(DeltaEncoder(DeltaConfig(delta_type=one)), pairs) for one in DeltaType}
    raw = sum(weight.nbytes for weight, _ in pairs)
    _, auto_encode, auto_decode, _ = results[DeltaType.AUTO]
    for delta_type, (size, encode, decode, error) in results.items():
        times = f"{encode / auto_encode:.1f} | {decode / auto_decode:.1f}"
        cells = f"{100 * size / raw:.1f} % | {times} | {error:.2g}"
        print(f"| {label} | `{delta_type}` | {cells} |", flush=True)


def _measure(
    encoder: DeltaEncoder, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[int, float, float, float]:
    """Bytes, seconds of encoding and of decoding, and the largest error."""
    encode = decode = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        deltas = [encoder.encode_delta(weight, base) for weight, base in pairs]
        between = time.process_time()
        backs = [encoder.decode_delta(delta, base) for delta, (_, base) in zip(deltas, pairs, strict=True)]
        encode, decode = min(encode, between - start), min(decode, time.process_time() - between)
    error = max(
        float(np.abs(back.astype(np.float64) - weight.astype(np.float64)).max(initial=0))
        for back, (weight, _) in zip(backs, pairs, strict=True)
    )
    if encoder.config.delta_type.is_lossless and any(
        back.tobytes() != weight.tobytes() for back, (weight, _) in zip(backs, pairs, strict=True)
    ):
        raise SystemExit("a strategy gives other bytes back")
    return sum(delta.nbytes for delta in deltas), encode, decode, error
