"""Git's drawing of a history with our text about each commit.

Git draws for a message of as many lines as the text may have, with a mark where each of them would stand.
Marks that are not needed vanish; where the drawing goes on beside them, it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from coral_git.errors import UsageError
from coral_git.git.command import Git

_COMMIT, _MARK = "\x1e", "\x1f"


def draw(
    git: Git,
    arguments: Sequence[str],
    paths: Sequence[str],
    text_of: Callable[[str], Sequence[str]],
    most_lines: int,
) -> Iterator[str]:
    """Lines of the drawing.

    Args:
        git: runs in the repository.
        arguments: options and revisions for ``git log``.
        paths: pathspecs; git leaves commits out that do not touch them, and joins the lines over them.
        text_of: the lines about a commit, given its id; at least one.
        most_lines: how many lines of a text are shown.

    Raises:
        UsageError: git does not understand the arguments.
    """
    template = f"{_COMMIT}%H" + f"%n{_MARK}" * (most_lines - 1)
    command = ("log", "--graph", "--no-color", f"--format={template}", *arguments, "--", *paths)
    if not git.succeeds("log", *arguments, "--max-count=0", "--", *paths):
        raise UsageError(f"bad revisions '{' '.join(arguments)}'")
    text: list[str] = []
    with git.stream(*command) as output:
        for raw in output:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            if _COMMIT in line:
                drawing, _, oid = line.partition(_COMMIT)
                text = list(text_of(oid))
                yield drawing + text.pop(0)
            elif _MARK in line:
                drawing = line.partition(_MARK)[0]
                if text or set(drawing) - set("| "):
                    yield (drawing + (text.pop(0) if text else "")).rstrip()
            else:
                yield line
