"""``git coral du``: what takes the space, and what dropping a ref would free."""

from __future__ import annotations

from collections.abc import Iterator

import click

from coral_git.cli.commit_lines import SHORT, count
from coral_git.cli.options import json_option, print_json
from coral_git.cli.tables import print_table
from coral_git.cli.words import PathsCommand, split_words
from coral_git.manifest.entries import Manifest
from coral_git.manifest.escape import escape_name, printable
from coral_git.manifest.model import object_ids
from coral_git.pipeline.manifests import expanded_or_none
from coral_git.pipeline.progress import format_size
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.listing import tree_entries
from coral_git.repository.unfinished import manifests_among
from coral_git.repository.usage import CodecUsage, PieceUsage, Reason, RefUsage, StoreUsage, Usage

_SORTS = ("size", "unique", "name")
_REASONS = 20
_REFS = 5


@click.command("du", cls=PathsCommand)
@click.argument("words", nargs=-1, metavar="[REV]... [-- PATH...]")
@click.option("-t", "--tensors", "with_tensors", is_flag=True, help="The tensors of each file too.")
@click.option("--codecs", "only_codecs", is_flag=True, help="Only what each codec made of the objects.")
@click.option("--why", is_flag=True, help="For the largest objects: what they are, and which refs need them.")
@click.option("-r", "--remotes", "with_remotes", is_flag=True, help="Tell remote-tracking branches apart.")
@click.option("--sort", type=click.Choice(_SORTS), default="size", help="The order.")
@click.option("-n", "--max-count", "limit", type=click.IntRange(1), help="Show so many lines of a table.")
@click.option("--bytes", "exact", is_flag=True, help="Exact numbers.")
@json_option
def command(
    words: tuple[str, ...],
    with_tensors: bool,
    only_codecs: bool,
    why: bool,
    with_remotes: bool,
    sort: str,
    limit: int | None,
    exact: bool,
    as_json: bool,
) -> None:
    """Show what takes the space of the store. Without REV: in total, and for each branch, tag and run.

    'unique' is what nothing else needs: what would be freed if the ref were dropped, git had pruned it
    ('git gc --prune=now'), and 'git coral gc' ran. With REV, the files of these revisions; there it is what
    no other version names.
    """
    workspace = Workspace.open()
    try:
        chosen = split_words(workspace, words)
        usage = Usage(workspace, with_remotes=with_remotes)
        files = list(_files(workspace, chosen.revisions, chosen.paths))
        if why:
            wanted = [one for _, manifest in files for one in object_ids(manifest)] if files else None
            _show_reasons(usage.reasons(wanted)[: limit or _REASONS], as_json, exact)
        elif only_codecs:
            _show_codecs(usage.codecs(), as_json, exact)
        elif chosen.revisions or chosen.paths:
            pieces = _sorted(usage.pieces(files, with_tensors), sort, with_tensors)
            _show_pieces(pieces[:limit], as_json, exact)
        else:
            _show_store(usage, sort, limit, as_json, exact)
    finally:
        workspace.close()


def _files(
    workspace: Workspace, revisions: tuple[str, ...], paths: tuple[str, ...]
) -> Iterator[tuple[bytes, Manifest]]:
    seen = set()
    for revision in revisions or (("HEAD",) if paths else ()):
        for entry, stored in manifests_among(workspace, tree_entries(workspace, revision, paths)):
            if (entry.path, entry.oid) not in seen:
                seen.add((entry.path, entry.oid))
                yield entry.path, expanded_or_none(workspace, stored.manifest) or stored.manifest


def _show_store(usage: Usage, sort: str, limit: int | None, as_json: bool, exact: bool) -> None:
    store, refs, codecs = usage.store, usage.refs(), usage.codecs()
    keys = {
        "size": lambda one: -one.stored_bytes,
        "unique": lambda one: -one.unique_bytes,
        "name": lambda one: one.name,
    }
    refs.sort(key=keys[sort])
    if as_json:
        tables = {"refs": [one._asdict() for one in refs], "codecs": [one._asdict() for one in codecs]}
        print_json({"store": store._asdict(), **tables})
        return
    for line in _totals(store, exact):
        click.echo(line)
    click.echo()
    rows = [_ref_row(one, exact) for one in refs[:limit]]
    print_table(rows, (2, 3, 4, 5), ("ref", "kind", "versions", "raw", "stored", "unique"))
    click.echo()
    _show_codecs(codecs, False, exact)


def _totals(store: StoreUsage, exact: bool) -> Iterator[str]:
    yield (
        f"{count(store.versions, 'version')} of files, {_size(store.raw_bytes, exact)} raw, "
        f"{_size(store.live_bytes, exact)} stored{_saved(store.raw_bytes, store.live_bytes)}"
    )
    garbage = f", {_size(store.garbage_bytes, exact)} of them not needed" if store.garbage_bytes else ""
    trash = f"; {_size(store.trash_bytes, exact)} in the trash" if store.trash_bytes else ""
    yield f"{count(store.packs, 'pack')}, {_size(store.pack_bytes, exact)}{garbage}{trash}"
    if store.missing:
        yield f"{count(store.missing, 'object')} not here: git coral fetch --all"


def _ref_row(one: RefUsage, exact: bool) -> tuple[str, ...]:
    sizes = (one.raw_bytes, one.stored_bytes, one.unique_bytes)
    return printable(one.name), one.kind, str(one.versions), *(_size(size, exact) for size in sizes)


def _show_codecs(codecs: list[CodecUsage], as_json: bool, exact: bool) -> None:
    if as_json:
        print_json([one._asdict() for one in codecs])
        return
    rows = [
        (
            one.name,
            str(one.objects),
            _size(one.raw_bytes, exact),
            _size(one.stored_bytes, exact),
            f"{one.stored_bytes / one.raw_bytes:.1%}" if one.raw_bytes else "-",
        )
        for one in codecs
    ]
    print_table(rows, (1, 2, 3, 4), ("codec", "objects", "raw", "stored", "of raw"))


def _show_pieces(pieces: list[PieceUsage], as_json: bool, exact: bool) -> None:
    if as_json:
        print_json([one._asdict() for one in pieces])
        return
    rows = [
        (
            _size(one.raw_bytes, exact),
            _size(one.stored_bytes, exact),
            _size(one.unique_bytes, exact),
            f"{one.missing} missing" if one.missing else "",
            f"  {escape_name(one.name)}" if one.name else printable(one.path),
        )
        for one in pieces
    ]
    print_table(rows, (0, 1, 2), ("raw", "stored", "unique", "", "file"))


def _show_reasons(reasons: list[Reason], as_json: bool, exact: bool) -> None:
    if as_json:
        print_json([{**one._asdict(), "object_id": one.object_id.hex()} for one in reasons])
        return
    for one in reasons:
        owner = f"tensor {escape_name(one.owner)}" if one.owner else "rest or chunk of a file"
        named = f"{owner}, in {count(one.versions, 'version')}" if one.versions else "in no version"
        serves = f", base of {count(one.serves, 'delta')}" if one.serves else ""
        more = f" and {len(one.refs) - _REFS} more" if len(one.refs) > _REFS else ""
        refs = ", ".join(map(printable, one.refs[:_REFS])) + more
        size = f"{_size(one.stored_bytes, exact)} of {_size(one.raw_bytes, exact)} ({one.codec})"
        click.echo(f"{one.object_id.hex()[:SHORT]} {size}: {named}{serves}; needed by {refs}")


def _sorted(pieces: list[PieceUsage], sort: str, with_tensors: bool) -> list[PieceUsage]:
    keys = {
        "size": lambda one: -one.stored_bytes,
        "unique": lambda one: -one.unique_bytes,
        "name": lambda one: one.name or one.path,
    }
    if not with_tensors:
        return sorted(pieces, key=keys[sort])
    files = sorted((one for one in pieces if not one.name), key=keys[sort])
    found = []
    for file in files:
        found.append(file)
        found += sorted((one for one in pieces if one.name and one.path == file.path), key=keys[sort])
    return found


def _size(number: int, exact: bool) -> str:
    return str(number) if exact else format_size(number)


def _saved(raw: int, stored: int) -> str:
    return f" ({100 * (1 - stored / raw):.0f} % saved)" if 0 < stored < raw else ""
