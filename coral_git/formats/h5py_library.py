"""h5py, which is not installed everywhere."""

from __future__ import annotations

from typing import Any

from coral_git.errors import UsageError


def load_h5py(purpose: str) -> Any:  # noqa: ANN401 - a module without types
    """The module h5py.

    Args:
        purpose: what it is used for, as the beginning of a message: ``"HDF5 files are written"``.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise UsageError(
            f"{purpose} with h5py, which is not installed", hint="pip install 'coral-git[hdf5]'"
        ) from error
    return h5py
