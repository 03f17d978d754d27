"""Taking in a pack that came from outside."""

from __future__ import annotations

import contextlib
import os

from coral_git import fsops
from coral_git.errors import FormatVersionError, IntegrityError, PolicyError, from_os_error
from coral_git.limits import Limits
from coral_git.store.layout import Layout
from coral_git.store.location import Location
from coral_git.store.pack_files import PackFile
from coral_git.store.pack_scan import pack_digest, scan_pack
from coral_git.store.publishing import publish_pack, write_incoming_index
from coral_git.store.verify import Bases, check_entries
from coral_git.types import PackId


def check_incoming(path: str, limits: Limits, expected: PackId | None, bases: Bases | None) -> list[Location]:
    """Check a pack from outside before it gets a name.

    Args:
        path: the file.
        limits: the caps.
        expected: the id that the sender promised.
        bases: decode every object too, with bases from there; None checks the structure only.

    Returns:
        Its entries.

    Raises:
        PolicyError: it is larger than a pack may be.
        IntegrityError: it is not what was promised, damaged, or an object has not the bytes of its id.
        FormatVersionError: it needs a newer version.
    """
    file = PackFile(path)
    if file.size > limits.pack_max:
        raise PolicyError(f"the received pack {path!r} has {file.size} bytes, more than a pack may have")
    pack = pack_digest(file)
    if expected is not None and pack != expected:
        raise IntegrityError(f"the received pack has the id '{pack.hex()}' instead of '{expected.hex()}'")
    locations = list(scan_pack(file, pack, limits))
    if bases is not None:
        for problem in check_entries(file, pack, locations, limits, bases):
            if problem.kind == "version":
                raise FormatVersionError(problem.message, hint="install a newer coral-git")
            if problem.kind != "base":  # the base may come with another pack; reading checks again
                raise IntegrityError(f"the received pack '{pack.hex()}' is wrong: {problem.message}")
    return locations


def take_in(layout: Layout, path: str, locations: list[Location], *, fsync: bool) -> PackId:
    """Publish a checked pack and its index."""
    pack = locations[0].pack
    index = ""
    try:
        if fsync:
            fd = os.open(path, os.O_RDONLY)
            try:
                fsops.sync_file(fd, path)
            finally:
                os.close(fd)
        index = write_incoming_index(layout, pack, locations, fsync=fsync)
        publish_pack(layout, pack, path, index)
        if fsync:
            fsops.sync_directory(layout.packs)
    except BaseException as error:
        if index:
            with contextlib.suppress(OSError):
                fsops.remove(index)
        if isinstance(error, OSError):
            raise from_os_error(error, f"take in the pack '{pack.hex()}'") from error
        raise
    return pack
