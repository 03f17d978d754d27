"""Cloning: ``git clone`` with the drivers at hand, also where nobody has installed them yet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from coral_git.errors import UsageError
from coral_git.git import drivers
from coral_git.git.command import Git, clean_environment, failure, plain_words
from coral_git.pipeline.setup import set_up
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.installing import hook_lines
from coral_git.repository.pulling import finish

_TAKE_A_VALUE = frozenset(
    {
        "-b", "--branch", "-c", "--config", "--depth", "--filter", "-j", "--jobs", "-o", "--origin",
        "--reference", "--reference-if-able", "--separate-git-dir", "--server-option", "--shallow-exclude",
        "--shallow-since", "--template", "-u", "--upload-pack", "--bundle-uri", "--ref-format",
    }
)  # fmt: skip


def clone(arguments: Sequence[str], *, quiet: bool = False) -> Iterator[str]:
    """Clone a repository, install the drivers in it unless they are in force anyway, and write its models.

    Args:
        arguments: what ``git clone`` takes.
        quiet: whether git prints nothing; its failure is a ``GitError`` then.

    Yields:
        Lines that say what was done.

    Raises:
        UsageError: no URL was given.
        CloneFailed: git failed, and has said why.
        GitError: git failed, with ``quiet``.
        ObjectMissingError: a file stays a manifest; the clone is there.
    """
    words = list(plain_words(arguments, _TAKE_A_VALUE))
    if not words:
        raise UsageError("no repository to clone", hint="git coral clone URL [DIRECTORY]")
    directory = words[1] if len(words) > 1 else guess_directory(words[0])
    named = list(arguments) if len(words) > 1 else [*arguments, directory]
    git = Git(env=clean_environment())
    program = drivers.find_program()
    in_force = drivers.inspect(git, program).state is drivers.DriverState.OURS
    given = [] if in_force else _as_options(program)
    code, said = git.ask(*given, "clone", *named) if quiet else (git.call(*given, "clone", *named), b"")
    if code and quiet:
        raise failure(("clone",), code, said)
    if code:
        raise CloneFailed(code)
    workspace = Workspace.open(directory)
    if not in_force:
        drivers.install(workspace.git, "local", program)
        workspace = Workspace.open(directory)
        yield f"git uses {program} (local configuration)"
    yield from hook_lines(set_up(workspace))
    written = finish(workspace)
    if written:
        yield f"wrote {written} file{'s' if written != 1 else ''}"
    workspace.close()


class CloneFailed(Exception):
    """``git clone`` failed and has said why.

    Args:
        code: its exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def guess_directory(url: str) -> str:
    """The directory that ``git clone`` makes for a URL, by git's own rules.

    Raises:
        UsageError: the URL gives no name.
    """
    text = url.rstrip("/ \t")
    text = text.removesuffix("/.git").rstrip("/")
    name = text.replace(":", "/").rpartition("/")[2]
    name = name.removesuffix(".bundle").removesuffix(".git")
    if not name or name in (".", ".."):
        raise UsageError(f"cannot tell a directory from '{url}'", hint="name one after the URL")
    return name


def _as_options(program: str) -> list[str]:
    options = []
    for key, value in drivers.settings(program).items():
        options += ["-c", f"{key}={value}"]
    return options
