"""Whole files against the SHA-256 in their manifests."""

from __future__ import annotations

import hashlib
import os

from coral_git.errors import IntegrityError
from coral_git.manifest.model import Manifest
from coral_git.pipeline.decode import stream_file
from coral_git.pipeline.parallel import Workers
from coral_git.store.store import Store

_READ_BYTES = 1 << 20


def verify_digest(fd: int, manifest: Manifest) -> None:
    """Read an open file again and compare its SHA-256 with the manifest's.

    Raises:
        IntegrityError: they differ.
    """
    hasher = hashlib.sha256()
    for offset in range(0, manifest.size, _READ_BYTES):
        hasher.update(os.pread(fd, _READ_BYTES, offset))
    _compare(hasher.digest(), manifest)


def verify_manifest(manifest: Manifest, store: Store, workers: Workers) -> None:
    """Decode the whole file of an expanded manifest, and compare its SHA-256.

    Raises:
        IntegrityError: an object, or the file, does not have the bytes that its digest names.
        ObjectMissingError: an object is not in the store.
    """
    hasher = hashlib.sha256()
    for block in stream_file(manifest, store, workers):
        hasher.update(block)
    _compare(hasher.digest(), manifest)


def _compare(digest: bytes, manifest: Manifest) -> None:
    if digest != manifest.sha256:
        raise IntegrityError(
            f"the restored file has SHA-256 {digest.hex()}, its manifest says {manifest.sha256.hex()}",
            hint="run 'git coral fsck'; the commit may hold a manifest that was edited",
        )
