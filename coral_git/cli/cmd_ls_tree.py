"""``git coral ls-tree``: the weight files of a commit, and the tensors in them."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from coral_git.cli.commit_lines import SHORT, count
from coral_git.cli.options import json_option, print_json_list
from coral_git.cli.pager import page
from coral_git.cli.tables import table_lines
from coral_git.git.revisions import TreeEntry
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import escape_name
from coral_git.pipeline.manifests import expanded_or_none
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.progress import format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.listing import tree_entries
from coral_git.repository.unfinished import manifests_among


@click.command("ls-tree")
@click.argument("revision", metavar="REV")
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-t", "--tensors", "with_tensors", is_flag=True, help="List the tensors of each file.")
@click.option("--tensor", "patterns", multiple=True, metavar="GLOB", help="Only tensors whose names match.")
@click.option("--name-only", is_flag=True, help="Only names.")
@json_option
def command(
    revision: str,
    paths: tuple[str, ...],
    with_tensors: bool,
    patterns: tuple[str, ...],
    name_only: bool,
    as_json: bool,
) -> None:
    """List the weight files of REV: SHA-256, size, tensors, path. With --tensors, what is in them.

    Of a tensor: data type, shape, size, the first object it consists of, name.
    """
    workspace = Workspace.open()
    try:
        found = (
            (entry, expanded_or_none(workspace, stored.manifest) or stored.manifest)
            for entry, stored in manifests_among(workspace, tree_entries(workspace, revision, paths))
        )
        with_tensors = with_tensors or bool(patterns)
        if as_json:
            print_json_list(_as_json(entry, manifest, with_tensors, patterns) for entry, manifest in found)
        else:
            page(_lines(found, with_tensors, patterns, name_only))
    finally:
        workspace.close()


def _lines(
    found: Iterator[tuple[TreeEntry, Manifest]],
    with_tensors: bool,
    patterns: tuple[str, ...],
    name_only: bool,
) -> Iterator[str]:
    for entry, manifest in found:
        chosen = _matching(manifest, patterns)
        if name_only:
            yield from (
                [escape_name(one.name) for one in chosen.tensors] if with_tensors else [show_path(entry.path)]
            )
            continue
        pieces = "no tensors" if manifest.tensor_count is None else count(manifest.tensor_count, "tensor")
        digest, size = manifest.sha256.hex()[:SHORT], format_size(manifest.size)
        yield f"{digest} {size:>10} {pieces:>12} {show_path(entry.path)}"
        if with_tensors and chosen.tensors:
            rows = [
                (
                    one.dtype.name,
                    f"[{','.join(map(str, one.shape))}]",
                    format_size(one.nbytes),
                    one.objects[0].hex()[:SHORT] if one.objects else "-",
                    escape_name(one.name),
                )
                for one in chosen.tensors
            ]
            yield from (f"  {line}" for line in table_lines(rows, (2,)))


def _matching(manifest: Manifest, patterns: tuple[str, ...]) -> Manifest:
    import fnmatch

    if not patterns:
        return manifest
    kept = [one for one in manifest.tensors if any(fnmatch.fnmatchcase(one.name, glob) for glob in patterns)]
    return manifest._replace(tensors=tuple(kept))


def _as_json(
    entry: TreeEntry, manifest: Manifest, with_tensors: bool, patterns: tuple[str, ...]
) -> dict[str, object]:
    found: dict[str, object] = {
        "path": os.fsdecode(entry.path),
        "blob": entry.oid,
        "format": manifest.format,
        "size": manifest.size,
        "sha256": manifest.sha256.hex(),
        "tensor_count": manifest.tensor_count,
    }
    if with_tensors:
        found["tensors"] = [
            {
                "name": one.name,
                "dtype": one.dtype.name,
                "shape": one.shape,
                "bytes": one.nbytes,
                "objects": [part.hex() for part in one.objects],
            }
            for one in _matching(manifest, patterns).tensors
        ]
    return found
