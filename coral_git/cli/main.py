"""The click group: lazy commands, options common to all, errors in git's manner."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import ClassVar

import click

from coral_git import __version__
from coral_git.errors import CoralError, ProblemsFound, from_os_error

SECTIONS: dict[str, dict[str, str]] = {
    "Set up": {
        "init": "init",
        "install": "install",
        "uninstall": "uninstall",
        "track": "track",
        "untrack": "untrack",
        "clone": "clone",
        "config": "config",
        "doctor": "doctor",
        "demo": "demo",
    },
    "Work": {
        "add": "add",
        "commit": "commit",
        "status": "status",
        "ls-files": "ls_files",
        "ls-tree": "ls_tree",
        "cat": "cat",
        "checkout": "checkout",
    },
    "History": {
        "diff": "diff",
        "log": "log",
        "show": "show",
        "blame": "blame",
        "find": "find",
        "verify": "verify",
        "branch": "branch",
        "experiment": "experiment",
        "registry": "registry",
        "metrics": "metrics",
        "tag": "tag",
        "tags": "tags",
    },
    "Merge": {
        "merge": "merge",
        "cherry-pick": "cherry_pick",
        "revert": "revert",
        "resolve": "resolve",
    },
    "Store": {
        "du": "du",
        "fsck": "fsck",
        "gc": "gc",
        "repack": "repack",
        "deduplicate": "deduplicate",
    },
    "In and out": {
        "export": "export",
        "import": "import",
    },
    "Remote": {
        "remote": "remote",
        "fetch": "fetch",
        "pull": "pull",
        "push": "push",
    },
    "Continuous integration": {
        "check": "check",
        "hook": "hook",
    },
    "Called by git (stable, for scripts)": {
        "filter-process": "filter_process",
        "clean": "clean",
        "smudge": "smudge",
        "merge-driver": "merge_driver",
    },
}
"""Section → command name → module ``cmd_<name>``, in the order of the help text."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is asked for."""

    _modules: ClassVar = {name: module for commands in SECTIONS.values() for name, module in commands.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command name, in the order of the help text."""
        return list(self._modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; None when there is none of that name."""
        module = self._modules.get(cmd_name)
        if module is None:
            return None
        loaded = importlib.import_module(f"coral_git.cli.cmd_{module}")
        command: click.Command = loaded.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one gets the nearest names as a hint."""
        if args and args[0] not in self._modules:
            import difflib

            near = difflib.get_close_matches(args[0], self._modules, n=3)
            hint = (
                f"did you mean {' or '.join(repr(name) for name in near)}?"
                if near
                else "see 'git coral --help'"
            )
            print_error(f"'{args[0]}' is not a coral command", hint)
            ctx.exit(2)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands section by section."""
        for title, commands in SECTIONS.items():
            rows = []
            for name in commands:
                command = self.get_command(ctx, name)
                if command is not None and not command.hidden:
                    rows.append((name, command.get_short_help_str(limit=80)))
            with formatter.section(title):
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    name="git-coral",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="git-coral")
@click.option(
    "-C", "directory", metavar="DIR", help="Run as if started in DIR.", type=click.Path(file_okay=False)
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
def group(directory: str | None, debug: bool) -> None:
    """Neural-network weights in ordinary git.

    Weight files become small text manifests in git; their tensors go, deduplicated and as lossless
    deltas, into a store beside the repository.
    """
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as error:
            raise from_os_error(error, f"enter '{directory}'") from error
    if debug:
        os.environ["CORAL_DEBUG"] = "1"


def print_error(message: str, hint: str = "") -> None:
    """Print an error in git's manner on stderr."""
    print(f"error: {message}", file=sys.stderr)
    for line in hint.splitlines():
        print(f"hint: {line}", file=sys.stderr)


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; no traceback for a user's mistake."""
    try:
        result = group.main(args=list(arguments), prog_name="git coral", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130
    except ProblemsFound as error:
        return error.exit_code
    except CoralError as error:
        if os.environ.get("CORAL_DEBUG"):
            raise
        print_error(error.message, error.hint)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + getattr(signal, "SIGPIPE", 13)
    except OSError as error:
        if os.environ.get("CORAL_DEBUG"):
            raise
        failed = from_os_error(error, "go on")
        print_error(failed.message, failed.hint)
        return failed.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    return result if isinstance(result, int) else 0
