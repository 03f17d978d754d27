"""Answering "did this file change?" from its size, times and inode.

Git's own exception to "never by time", under git's own condition: a record is believed only when both
times of the file are at least two seconds older than the record, because a file system with coarse
times could hide a change that came right after.
"""

from __future__ import annotations

import os
import time

from coral_git.pipeline.source import identity
from coral_git.store.cache import Cache, StatRecord

_SETTLED_NS = 2_000_000_000


def recall(cache: Cache, path: bytes, status: os.stat_result) -> tuple[bytes, bool] | None:
    """The manifest that the file had when it last looked like this.

    Returns:
        The manifest and whether it may be believed without looking at the content; None when the file
        is unknown or looks different now.
    """
    record = cache.stat(path)
    if record is None:
        return None
    seen = record.size, record.mtime_ns, record.ctime_ns, record.inode, record.device
    if seen != identity(status):
        return None
    settled = max(status.st_mtime_ns, status.st_ctime_ns) + _SETTLED_NS <= record.recorded_ns
    return record.manifest, settled


def remember(
    cache: Cache, path: bytes, status: os.stat_result, manifest: bytes, read_ns: int | None = None
) -> None:
    """Record what the file looks like now that its manifest is known.

    Args:
        cache: the hints of the store.
        path: the file.
        status: its stat data.
        manifest: its manifest.
        read_ns: when reading it began; now, for a file that we wrote ourselves.
    """
    recorded_ns = time.time_ns() if read_ns is None else read_ns
    record = StatRecord(*identity(status), recorded_ns=recorded_ns, manifest=manifest)
    cache.record_stat([(path, record)])
