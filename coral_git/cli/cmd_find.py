"""``git coral find``: commits by metrics, labels, tensors, objects, files."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from coral_git.cli.commit_lines import commit_json, one_line
from coral_git.cli.options import json_option, print_json_list
from coral_git.cli.pager import page
from coral_git.cli.words import PathsCommand, split_words
from coral_git.errors import UsageError
from coral_git.history.changes import weight_commits
from coral_git.history.commits import walk
from coral_git.history.expression import parse_condition
from coral_git.history.facts import Facts
from coral_git.history.goals import Goal
from coral_git.history.search import Hit, Query, search
from coral_git.history.selection import select
from coral_git.manifest.escape import escape_name
from coral_git.pipeline.messages import show_path
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.identifying import EVERYWHERE
from coral_git.repository.unfinished import user_git

_HEX = re.compile(r"[0-9a-f]{4,64}")


@click.command("find", cls=PathsCommand)
@click.argument("words", nargs=-1, metavar="[REV]... [-- PATH...]")
@click.option("--metric", "--filter", "condition", metavar="EXPR", help="E.g. 'accuracy>0.90 and loss<0.3'.")
@click.option("--label", "labels", multiple=True, metavar="WORD", help="Commits with this label.")
@click.option("--tag", "tags", multiple=True, metavar="NAME", help="Commits with this label, or tag of git.")
@click.option("--tensor", "names", multiple=True, metavar="GLOB", help="That brought in such a tensor.")
@click.option("--shape", metavar="AxB", help="That brought in a tensor of this shape, e.g. 384x1536.")
@click.option("--dtype", default="", metavar="NAME", help="That brought in a tensor of this type, e.g. BF16.")
@click.option("--object", "object_id", default="", metavar="ID", help="That brought in this object.")
@click.option("--sha256", default="", metavar="HEX", help="That brought in the file with this SHA-256.")
@click.option("--sort-by", metavar="METRIC", help="The best first.")
@click.option("-n", "--max-count", "limit", type=click.IntRange(1), help="Show so many.")
@json_option
def command(
    words: tuple[str, ...],
    condition: str | None,
    labels: tuple[str, ...],
    tags: tuple[str, ...],
    names: tuple[str, ...],
    shape: str | None,
    dtype: str,
    object_id: str,
    sha256: str,
    sort_by: str | None,
    limit: int | None,
    as_json: bool,
) -> int:
    """Find commits by what is said about them or what they brought in. Every branch, tag and run is searched.

    Everything that is given must be met. Exits with 1 when nothing is found.
    """
    query = Query(names, _shape(shape), dtype, _hex(object_id), _hex(sha256))
    chosen = parse_condition(condition) if condition is not None else None
    goal = Goal.parse(sort_by) if sort_by is not None else None

    def is_meant(facts: Facts) -> bool:
        return all(one in facts.labels for one in labels) and (chosen is None or chosen(facts))

    workspace = Workspace.open()
    try:
        found = split_words(workspace, words)
        walked = walk(user_git(workspace), found.revisions or EVERYWHERE, found.paths)
        tagged = (one for one in walked if all(_is_tagged(tag, one.refs, one.facts) for tag in tags))
        hits = search(select(weight_commits(workspace, tagged), is_meant, goal), query)
        shown = _first(hits, limit)
        count = 0

        def counted() -> Iterator[Hit]:
            nonlocal count
            for hit in shown:
                count += 1
                yield hit

        if as_json:
            print_json_list(_as_json(hit) for hit in counted())
        else:
            page(line for hit in counted() for line in _lines(hit))
    finally:
        workspace.close()
    return 0 if count else 1


def _first(hits: Iterator[Hit], limit: int | None) -> Iterator[Hit]:
    from itertools import islice

    return islice(hits, limit)


def _is_tagged(tag: str, refs: tuple[str, ...], facts: Facts) -> bool:
    return tag in facts.labels or f"tag: {tag}" in refs


def _lines(hit: Hit) -> Iterator[str]:
    yield one_line(hit.found)
    for file in hit.files:
        names = [escape_name(name) for name in hit.tensors[file.touched.path]]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        yield f"    {show_path(file.touched.path)}{': ' if names else ''}{', '.join(names[:5])}{more}"


def _as_json(hit: Hit) -> dict[str, object]:
    tensors = {path.decode("utf-8", "surrogateescape"): names for path, names in hit.tensors.items()}
    return {**commit_json(hit.found), "matches": tensors}


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = re.findall(r"\d+", text)
    if not re.fullmatch(r"\[?\s*\d*(\s*[x,]\s*\d+)*\s*\]?", text):
        raise UsageError(f"'{text}' is no shape", hint="write it as 384x1536")
    return tuple(map(int, sizes))


def _hex(text: str) -> str:
    text = text.lower().removeprefix("sha256:").removeprefix("blake3:")
    if text and not _HEX.fullmatch(text):
        raise UsageError(f"'{text}' is no id", hint="4 to 64 hexadecimal digits")
    return text
