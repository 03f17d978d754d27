"""The filter that git runs: clean and smudge for one git command, and what is left to do at its end.

Each request imports what it needs: most git commands only clean, or only smudge, and the user waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from coral_git.git.command import plain_words
from coral_git.git.filter_protocol import Request
from coral_git.manifest.model import Manifest
from coral_git.pipeline.messages import missing_message, say, show_path, warn
from coral_git.pipeline.source import FileSource
from coral_git.pipeline.workspace import Workspace
from coral_git.types import Buffer

if TYPE_CHECKING:
    from coral_git.pipeline.checkout import Outcome, Pending

_ONLY_COMPARES = frozenset({"status", "diff", "diff-files", "diff-index", "describe", "ls-files", "blame"})


class CoralFilter:
    """Answers the requests of one git command.

    Args:
        directory: the root of the work tree, where git starts filters.
    """

    def __init__(self, directory: str = ".") -> None:
        self._workspace = Workspace.open(directory)
        self._pending: dict[bytes, Pending] = {}
        self._compares = _asked_by_comparison()
        if not self._workspace.has_store:
            from coral_git.pipeline.setup import set_up_on_first_use

            set_up_on_first_use(self._workspace)

    def clean(self, request: Request, content: Iterable[Buffer]) -> bytes:
        """The manifest of the content of a file."""
        from coral_git.pipeline.clean import clean_content

        return clean_content(self._workspace, request.pathname, content, write=not self._compares)

    def smudge(self, request: Request, content: Iterable[Buffer]) -> bytes | Iterator[Buffer]:
        """The bytes of the file that a manifest stands for, or the manifest when the file follows later."""
        from coral_git.pipeline import smudge
        from coral_git.pipeline.checkout import Pending

        text = smudge.receive_text(self._workspace, content)
        if isinstance(text, FileSource):
            return smudge.pass_through(text)
        path = request.pathname
        self._pending.pop(path, None)
        manifest = smudge.parse_for_checkout(self._workspace, path, text)
        if manifest is None or os.environ.get("CORAL_SKIP_SMUDGE"):
            return text
        if request.can_delay and smudge.may_defer(self._workspace, manifest.size):
            self._check_strict(path, manifest)
            self._pending[path] = Pending(path, text, manifest)
            return text
        return smudge.smudge_inline(self._workspace, path, text, manifest)

    def finish(self) -> None:
        """Git has written its index and waits: write the files that were left as manifests."""
        try:
            if self._pending:
                self._write_pending()
        finally:
            self._workspace.close()

    def _write_pending(self) -> None:
        from coral_git.pipeline.checkout import write_pending
        from coral_git.pipeline.progress import Progress

        files = list(self._pending.values())
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            with Progress("writing weights") as progress:
                report(write_pending(self._workspace, files, progress.update))
        except KeyboardInterrupt:
            say("interrupted; files that are not written yet are manifests: run 'git coral checkout'")

    def _check_strict(self, path: bytes, manifest: Manifest) -> None:
        """With ``coral.strict``, fail while git still can."""
        if self._workspace.settings.strict:
            from coral_git.pipeline.missing import bring_objects

            missing = bring_objects(self._workspace, [(path, manifest)])
            if missing:
                raise missing_message(path, manifest, missing)


def report(outcome: Outcome) -> None:
    """Say on stderr which files were not written, and why."""
    for path, error in outcome.failed.items():
        warn(f"'{show_path(path)}' stays a manifest: {error.message}", error.hint)
    for path in outcome.changed:
        warn(f"'{show_path(path)}' was changed meanwhile and left alone")


def _interrupt(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _asked_by_comparison() -> bool:
    """Whether the git command that started this process only compares, so that nothing need be stored.

    Editors poll ``git status``; without this every poll would store the half-written state of a file.
    Where the command line cannot be read, the answer is no, and everything is stored.
    """
    try:
        with open(f"/proc/{os.getppid()}/cmdline", "rb") as file:
            arguments = [os.fsdecode(one) for one in file.read().split(b"\0")]
    except OSError:
        return False
    return subcommand(arguments) in _ONLY_COMPARES


def subcommand(arguments: list[str]) -> str:
    """The subcommand in a git command line: the first word that is no option of git's own."""
    if not arguments or os.path.basename(arguments[0]) not in ("git", "git.exe"):
        return ""
    return next(plain_words(arguments[1:]), "")
