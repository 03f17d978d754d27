"""``git coral hook``: what the hooks of git call."""

from __future__ import annotations

import sys

import click

from coral_git.pipeline.workspace import Workspace


@click.group("hook")
def command() -> None:
    """Called by git's hooks; not for you to type."""


@command.command("pre-push")
@click.argument("remote")
@click.argument("url", required=False, default="")
def pre_push(remote: str, url: str) -> None:
    """Send the weights of the commits that git is about to push.

    REMOTE and URL are what git gives the hook; what is pushed is read from standard input.
    """
    lines = sys.stdin.buffer.read().decode("utf-8", "surrogateescape").splitlines()
    if not lines:
        return
    from coral_git.repository import pushing

    workspace = Workspace.open()
    try:
        pushing.pre_push(workspace, remote, url, lines)
    finally:
        workspace.close()
