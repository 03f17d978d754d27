"""Folders that are imported: the files in them, and the model that a folder of the Hugging Face cache has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from coral_git.errors import CoralError, UsageError, from_os_error

_SNAPSHOTS = "snapshots"


class Listing(NamedTuple):
    """What is in a folder.

    Attributes:
        files: relative paths of the files, in the order of their names, folder by folder.
        left_out: what is no file: links to folders, pipes, sockets.
    """

    files: list[str]
    left_out: list[str]


def list_folder(folder: str) -> Listing:
    """The files of a folder and of those below it; hidden ones are passed over.

    Links to files are followed, links to folders are not.

    Raises:
        UsageError: a link leads nowhere.
        CoralError: a folder cannot be read.
    """
    listing = Listing([], [])
    for place, folders, files in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(_visible(folders))
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        listing.left_out.extend(os.path.join(place, name) for name in links)
        for file in (os.path.join(place, name) for name in sorted(_visible(files))):
            if os.path.isfile(file):
                listing.files.append(os.path.relpath(file, folder))
            elif os.path.islink(file):
                raise UsageError(f"'{file}' is a link that leads nowhere", hint="download the model again")
            else:
                listing.left_out.append(file)
    return listing


def find_snapshot(folder: str) -> str:
    """The snapshot in the folder of a model in the cache of Hugging Face; any other folder is itself.

    Raises:
        UsageError: it has several snapshots, and none of them is ``main``.
    """
    snapshots = os.path.join(folder, _SNAPSHOTS)
    if not (os.path.isdir(snapshots) and os.path.isdir(os.path.join(folder, "blobs"))):
        return folder
    names = sorted(_visible(os.listdir(snapshots)))
    main = _read_line(os.path.join(folder, "refs", "main"))
    if main not in names and len(names) != 1:
        raise UsageError(f"'{folder}' has {len(names)} snapshots", hint=f"import one folder of '{snapshots}'")
    return os.path.join(snapshots, main if main in names else names[0])


def model_name(folder: str) -> str:
    """The name of a folder, or that of the model whose snapshot it is in the cache of Hugging Face."""
    place, name = os.path.split(os.path.abspath(folder))
    cache, kind = os.path.split(place)
    kept = os.path.basename(cache)
    return kept.rpartition("--")[2] if kind == _SNAPSHOTS and "--" in kept else name


def _visible(names: list[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))


def _read_line(path: str) -> str:
    """A short text without the end of its line; empty where there is none."""
    try:
        with open(path, "rb") as file:
            return file.read(256).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _refuse(error: OSError) -> NoReturn:
    failed: CoralError = from_os_error(error, f"read the folder '{error.filename}'")
    raise failed
