#!/usr/bin/env python3
"""Write the reference pages from the code: commands, settings, errors, limits.

    python docs/generate.py            write docs/reference/*.md
    python docs/generate.py --check    exit with 1 when a page is not what the code says

The layout does not come from click's own help text, which differs from release to release.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from coral_git import config, errors
from coral_git.cli.main import SECTIONS, group
from coral_git.limits import KIB, MIB, Limits

FOLDER = Path(__file__).resolve().parent / "reference"
_MARK = "<!-- made by docs/generate.py: change the code, then run 'make docs' -->"

ENVIRONMENT = {
    "CORAL_SKIP_SMUDGE": "set to anything: checkouts leave manifests; `git coral checkout` writes files",
    "CORAL_FETCH_FROM": "a remote store that is asked first for missing objects: a name, a URL or a path",
    "CORAL_MERGE_STRATEGY": "the strategy of a merge, stronger than every setting, e.g. `weighted:alpha=0.3`",
    "CORAL_MERGE_REPORT": "a file to which a line of JSON is added for each weight file that is merged",
    "CORAL_KERNEL": "`numpy`: do not use the compiled kernel; the bytes that are written are the same",
    "CORAL_RUN": "the run that `git coral experiment log` and `end` are about; set by `experiment run`",
    "CORAL_DEBUG": "set to anything: show the traceback of an error; `git coral --debug` sets it",
    "CORAL_DELTA_TYPE": "the strategy of what is added, before attribute and setting; set by `git coral add`",
    "CORAL_PUSHED": "set by `git coral push` for its own pre-push hook; not for you to set",
}
"""Every variable of our own that the code reads."""

_FOREIGN_ENVIRONMENT = {
    "CI": "`true` or `1`: files of up to 512 MiB are written by git, so that damage makes it fail",
    "TERM": "`dumb`: no progress display",
}

_OTHER_CODES = (
    (0, "", "fine"),
    (
        1,
        "",
        "a file could not be written, `status` or `doctor` found something wrong, `find` or `verify` nothing",
    ),
    (130, "", "interrupted with Ctrl-C"),
    (141, "", "whoever read the output went away"),
)


def pages() -> dict[str, str]:
    """File name → text of every page."""
    made = {"cli.md": _cli(), "config.md": _config(), "errors.md": _errors(), "limits.md": _limits()}
    return {name: "\n".join([_MARK, "", *lines, ""]) for name, lines in made.items()}


def commands() -> Iterator[tuple[str, str, click.Command]]:
    """Section, full name and command, subcommands too, in the order of the help text."""
    for section, names in SECTIONS.items():
        for name in names:
            command = group.get_command(click.Context(group), name)
            if command is None:
                raise SystemExit(f"no command '{name}'")
            yield from _with_subcommands(section, name, command)


def _with_subcommands(
    section: str, name: str, command: click.Command
) -> Iterator[tuple[str, str, click.Command]]:
    yield section, name, command
    if isinstance(command, click.Group):
        for inner, subcommand in command.commands.items():
            yield from _with_subcommands(section, f"{name} {inner}", subcommand)


def _cli() -> list[str]:
    lines = [
        "# Commands",
        "",
        *_paragraph(
            "Every command takes `-h` and `--help`. For all commands together, type `git coral -h`: git"
            " itself takes `git coral --help` and looks for a manual page. Exit codes are in"
            " [errors.md](errors.md)."
        ),
        "",
        *_option_table(group, "These options stand before the command, as in `git coral -C DIR status`:"),
    ]
    last = ""
    for section, name, command in commands():
        if section != last:
            lines += [f"## {section}", ""]
            last = section
        lines += [f"### git coral {name}", "", f"    {_usage(name, command)}", "", *_help(command), ""]
        lines += _option_table(command)
    return lines[:-1]


def _usage(name: str, command: click.Command) -> str:
    words = ["git coral", name]
    if any(isinstance(parameter, click.Option) for parameter in command.params):
        words.append("[OPTIONS]")
    arguments = (_metavar(one) for one in command.params if isinstance(one, click.Argument))
    words += [word for word in arguments if word]
    if isinstance(command, click.Group):
        words.append("[COMMAND]" if command.invoke_without_command else "COMMAND")
    return " ".join(words)


def _metavar(argument: click.Argument) -> str:
    if argument.metavar is not None:
        return argument.metavar
    word = (argument.name or "").upper()
    if argument.nargs != 1:
        word += "..."
    return word if argument.required else f"[{word}]"


def _help(command: click.Command) -> list[str]:
    """The help text as Markdown; what is indented in it stays a block of code."""
    return [_literal(line) for line in inspect.cleandoc(command.help or "").split("\n")]


def _paragraph(text: str) -> list[str]:
    return textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)


def _literal(text: str) -> str:
    return text if text.startswith("    ") else re.sub(r"([<>|*])", r"\\\1", text)


def _option_table(command: click.Command, title: str = "") -> list[str]:
    options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
    if not options:
        return []
    rows = [f"| {_spelling(option)} | {_literal(option.help or '')} |" for option in options]
    return [*([title, ""] if title else []), "| option | |", "|---|---|", *rows, ""]


def _spelling(option: click.Option) -> str:
    value = "" if option.is_flag or option.count else f" {option.metavar or option.type.name.upper()}"
    return ", ".join(f"`{spelling}{value}`" for spelling in (*option.opts, *option.secondary_opts))


def _default(key: config.Key) -> str:
    return f"`{key.default}`" if key.default else ""


def _config() -> list[str]:
    keys = [f"| `{key.name}` | `{key.default}` | {_literal(key.meaning)} |" for key in config.KEYS]
    merging = [f"| `{key.name}` | {_default(key)} | {_literal(key.meaning)} |" for key in config.MERGE_KEYS]
    ours = [f"| `{name}` | {meaning} |" for name, meaning in ENVIRONMENT.items()]
    foreign = [f"| `{name}` | {meaning} |" for name, meaning in _FOREIGN_ENVIRONMENT.items()]
    return [
        "# Settings",
        "",
        *_paragraph(
            "The configuration of git is the configuration: `git config coral.threads 4`, with `--global`"
            " for all your repositories. Nothing of this is read from a file that is tracked: what you"
            " clone cannot change a setting."
        ),
        "",
        "| key | default | meaning |",
        "|---|---|---|",
        *keys,
        "",
        "## Merging",
        "",
        *_paragraph(
            "What becomes of tensors that both sides of a merge changed: see [merging](../guide/merging.md)."
            " These keys alone may also stand in a tracked file `.coralconfig`, in git's syntax, as a"
            " proposal: it is weaker than the attributes of a path, and those are weaker than your"
            " configuration."
        ),
        "",
        "| key | default | meaning |",
        "|---|---|---|",
        *merging,
        "",
        *_paragraph(
            "Booleans are written `true`, `yes`, `on`, `1` or `false`, `no`, `off`, `0`; ages `14.days`,"
            " `6.hours`, `now`. A value that cannot be understood is an error (exit code 2), never the"
            " default."
        ),
        "",
        *_paragraph(
            "`git coral remote add NAME LOCATION` writes `coral.remote.NAME.url`. `git coral install`"
            " writes the drivers, `filter.coral.*`, `merge.coral.*` and `diff.coral.xfuncname`; `git coral"
            " uninstall` removes them."
        ),
        "",
        "## Environment variables",
        "",
        "| variable | meaning |",
        "|---|---|",
        *ours,
        *foreign,
        "",
        "The variables of git (`GIT_DIR`, `GIT_SSH_COMMAND`, …) mean what they mean to git.",
    ]


def error_classes() -> list[type[errors.CoralError]]:
    """Every class of error, by exit code."""
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.CoralError)
    ]
    return sorted(found, key=lambda error: (error.exit_code, found.index(error)))


def _errors() -> list[str]:
    rows = [
        (error.exit_code, f"`{error.__name__}`", (inspect.getdoc(error) or "").split("\n")[0])
        for error in error_classes()
    ]
    table = sorted([*_OTHER_CODES, *rows], key=lambda row: row[0])
    return [
        "# Errors and exit codes",
        "",
        *_paragraph(
            "An error is one line on standard error that begins with `error:`, and mostly one that begins"
            " with `hint:` and says what to type next. The exit code tells the class of the error:"
        ),
        "",
        "| exit code | class | meaning |",
        "|---:|---|---|",
        *(f"| {code} | {name} | {meaning} |" for code, name, meaning in table),
        "",
        *_paragraph(
            "`git coral push`, `pull` and `clone` end with git's own exit code where git failed. A"
            " failing filter makes git itself fail, mostly with 128. The merge driver exits with 1 for a"
            " conflict."
        ),
        "",
        *_paragraph(
            "A message that says `this is a mistake in coral-git` is one: please report it, with the"
            " output of the same command under `CORAL_DEBUG=1` and of `git coral doctor`."
        ),
    ]


def _limits() -> list[str]:
    meanings = _attributes(inspect.getdoc(Limits) or "")
    rows = []
    for name, value in Limits._field_defaults.items():
        shown = _bytes(value) if name.endswith("_bytes") or name.startswith("pack_") else f"{value:,}"
        rows.append(f"| `{name}` | {shown} | {_literal(meanings[name])} |")
    return [
        "# Limits",
        "",
        *_paragraph(
            "Caps that protect memory, time and disk. They are constants, not settings: the sizes of"
            " parts, blocks and tables decide what is written, so that the same file gives the same"
            " manifest everywhere."
        ),
        "",
        "| name | value | meaning |",
        "|---|---:|---|",
        *rows,
        "",
        *_paragraph(
            "A file that exceeds a limit of a format reader (header length, nesting, length of a name,"
            " dimensions) is stored all the same, in chunks. There is no limit on the length of a file."
        ),
    ]


def _attributes(doc: str) -> dict[str, str]:
    """Name → meaning, from the section ``Attributes`` of a docstring; long meanings go on, indented."""
    section = doc.partition("Attributes:\n")[2]
    found = re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)$", section, re.MULTILINE)
    return {name: " ".join(meaning.split()).removesuffix(".") for name, meaning in found}


def _bytes(value: int) -> str:
    if value % MIB == 0:
        return f"{value // MIB} MiB"
    return f"{value // KIB} KiB" if value % KIB == 0 else f"{value:,} bytes"


def main() -> int:
    """Write or check the pages."""
    parser = argparse.ArgumentParser(description="Write the reference pages from the code.")
    parser.add_argument("--check", action="store_true", help="only say which pages are stale")
    options = parser.parse_args()
    stale = []
    for name, text in pages().items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not options.check:
                FOLDER.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{'stale' if options.check else 'wrote'}: docs/reference/{name}")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
