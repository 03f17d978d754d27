"""Pushing: the objects first, then git's own push, which moves the refs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import partial

from coral_git.errors import PolicyError, UsageError
from coral_git.git.command import plain_words
from coral_git.git.revisions import has_commits
from coral_git.pipeline.fetch import fetch_objects
from coral_git.pipeline.history import NamedObjects, named_in_history
from coral_git.pipeline.inventory import Inventory
from coral_git.pipeline.messages import say
from coral_git.pipeline.progress import Progress, format_size
from coral_git.pipeline.proofs import Proof, keep_proof, read_proof
from coral_git.pipeline.push import PushReport, push_objects
from coral_git.pipeline.stores import open_store, store_urls, stores_for_push
from coral_git.pipeline.workspace import Workspace
from coral_git.remotes.base import RemoteStore
from coral_git.repository.mirrors import refuse_mirror

PUSHED = "CORAL_PUSHED"
"""Environment variable: commits whose objects have just been sent, so that the hook need not look again."""

_TAKE_A_VALUE = frozenset({"-o", "--push-option", "--repo", "--receive-pack", "--exec"})
_LONGEST_VALUE = 100_000


def push(
    workspace: Workspace, arguments: Sequence[str], *, dry_run: bool = False, quiet: bool = False
) -> int:
    """Send the objects of what ``git push <arguments>`` would push, then push.

    Args:
        workspace: the repository.
        arguments: what ``git push`` takes: options, a remote, refspecs.
        dry_run: only say what would be done.
        quiet: print only problems.

    Returns:
        The exit code of ``git push``.

    Raises:
        ObjectMissingError: an object cannot be had; nothing was pushed.
        RemoteError: the remote store refused; nothing was pushed.
    """
    tips = pushed_tips(workspace, arguments)
    remote = _remote_argument(arguments) or default_remote(workspace)
    send_history(workspace, tips, remote=remote, command=arguments, dry_run=dry_run, quiet=quiet)
    words = ["push", *(["--dry-run"] if dry_run else []), *(["--quiet"] if quiet else []), *arguments]
    return workspace.git.call(*words, env=_told(tips))


def push_silently(workspace: Workspace, arguments: Sequence[str]) -> None:
    """As ``push``, for programs: nothing is printed, and a refusal is an error.

    Args:
        workspace: the repository.
        arguments: what ``git push`` takes, without options that take a value.

    Raises:
        ObjectMissingError: an object cannot be had; nothing was pushed.
        RemoteError: the remote store refused; nothing was pushed.
        GitError: git refused, e.g. because the remote has commits that are not here.
    """
    remote = next(plain_words(arguments), "") or default_remote(workspace)
    tips = pushed_tips(workspace, arguments)
    send_history(workspace, tips, remote=remote, command=arguments, quiet=True)
    workspace.git.run("push", "--quiet", *arguments, env=_told(tips))


def push_commit(workspace: Workspace, remote: str, ref: str, old: str, new: str) -> None:
    """Move a ref of a git remote whose objects are there already.

    Args:
        workspace: the repository.
        remote: a git remote.
        ref: its ref, in full.
        old: the id that it has to have; empty where there must be none.
        new: the id of a commit; empty to delete the ref.

    Raises:
        GitError: the ref is another one by now, or the remote refuses.
    """
    words = ("--quiet", "--no-verify", f"--force-with-lease={ref}:{old}")
    workspace.git.run("push", *words, "--end-of-options", remote, f"{new}:{ref}")


def push_objects_only(
    workspace: Workspace,
    arguments: Sequence[str],
    *,
    everything: bool = False,
    dry_run: bool = False,
    quiet: bool = False,
) -> None:
    """Send objects and move no ref.

    Args:
        workspace: the repository.
        arguments: a remote or an added store, then revisions or refspecs; HEAD by default.
        everything: all refs instead.
        dry_run: only say what would be done.
        quiet: print only problems.

    Raises:
        UsageError: an option of ``git push`` is among the arguments.
    """
    for argument in arguments:
        if argument.startswith("-"):
            raise UsageError(f"'{argument}' makes no sense with '--objects-only'")
    location = arguments[0] if arguments else default_remote(workspace)
    revisions = [source for one in arguments[1:] if (source := one.removeprefix("+").partition(":")[0])]
    if everything:
        revisions = ["--all"]
    elif not revisions:
        revisions = ["HEAD"] if has_commits(workspace.git) else []
    added = location in store_urls(workspace)
    stores = [open_store(workspace, location)] if added else stores_for_push(workspace, location)
    send_history(workspace, revisions, stores, command=(), dry_run=dry_run, quiet=quiet)


def pre_push(workspace: Workspace, remote: str, url: str, lines: Iterable[str]) -> None:
    """What the pre-push hook does: send the objects of the commits that git is about to push.

    Args:
        workspace: the repository.
        remote: the name of the remote, or its URL where it has no name.
        url: its URL.
        lines: what git writes to the hook: local ref, its id, remote ref, its id.

    Raises:
        ObjectMissingError: an object cannot be had; git pushes nothing then.
        RemoteError: the remote store refused.
        PolicyError: the push would delete packs; git does so with ``--mirror`` and ``--prune``.
    """
    own = workspace.settings.ref_prefix + "/"
    tips: dict[str, None] = {}
    doomed = 0
    for line in lines:
        fields = line.split()
        if len(fields) != 4:
            continue
        if not fields[1].strip("0"):
            doomed += fields[2].startswith(own)
        elif not fields[2].startswith(own):
            tips[fields[1]] = None
    if doomed:
        raise PolicyError(
            f"this push would delete weights from '{remote}': {doomed} refs below {own}",
            hint="name what is to be pruned: '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'",
        )
    refuse_mirror(workspace, remote or url, held_only=True)
    known = os.environ.get(PUSHED, "").split(",")
    new = [tip for tip in tips if tip not in known]
    if new:
        send_history(workspace, new, remote=remote or url)


def send_history(
    workspace: Workspace,
    revisions: Sequence[str],
    stores: Sequence[RemoteStore] | None = None,
    *,
    remote: str = "",
    command: Sequence[str] | None = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> list[PushReport]:
    """Send the objects that a part of the history names to remote stores.

    Args:
        workspace: the repository.
        revisions: as for ``git rev-list``.
        stores: where to; those of ``remote`` when None, looked up only when there is something to send.
        remote: a git remote.
        command: the arguments of the ``git push`` that follows; None in its hook.
        dry_run: only say what would be done.
        quiet: print only problems.
    """
    if not revisions:
        return []
    is_git_remote = stores is None and not store_urls(workspace)
    reports = []
    for store in stores_for_push(workspace, remote) if stores is None else stores:
        proof = read_proof(workspace, store)
        promised = _promised(workspace, remote)
        named = _named(workspace, revisions, [*proof.tips, *promised])
        if not named and not proof.packs:
            if not dry_run:
                keep_proof(workspace, store, proof, revisions, ())
            continue
        if is_git_remote:
            refuse_mirror(workspace, remote, command)
        report = _send(workspace, store, revisions, named, proof, promised, dry_run=dry_run, quiet=quiet)
        if report.sent and not quiet:
            say(_summary(report, dry_run=dry_run))
        reports.append(report)
    return reports


def _send(
    workspace: Workspace,
    store: RemoteStore,
    revisions: Sequence[str],
    named: NamedObjects,
    proof: Proof,
    promised: Sequence[str],
    *,
    dry_run: bool,
    quiet: bool,
) -> PushReport:
    inventory = Inventory(workspace, store)
    if not proof.packs <= inventory.packs:  # somebody removed packs, or made the remote anew
        proof = Proof()
        named = _named(workspace, revisions, promised)
    with Progress("sending weights", quiet=quiet) as progress:
        tell = partial(progress.update, store.name)
        report = push_objects(workspace, inventory, named, dry_run=dry_run, progress=tell)
    if not dry_run:
        keep_proof(workspace, store, proof, revisions, inventory.packs)
    return report


def _named(workspace: Workspace, revisions: Sequence[str], known: Sequence[str]) -> NamedObjects:
    """What a part of the history names, without what commits name that are known to be complete."""
    without = ["--not", *known] if known else []
    return named_in_history(
        workspace, [*revisions, *without], lambda tables: fetch_objects(workspace, tables)
    )


def _promised(workspace: Workspace, remote: str) -> list[str]:
    """In a partial clone, what came from the remote: its blobs are not here, and it has what they name.

    To look at them, git would fetch each one by itself.
    """
    if not workspace.config.get_bool(f"remote.{remote}.promisor"):
        return []
    return (
        workspace.git.run("for-each-ref", "--format=%(objectname)", f"refs/remotes/{remote}").decode().split()
    )


def pushed_tips(workspace: Workspace, arguments: Sequence[str]) -> list[str]:
    """The commits and tags that ``git push`` with some arguments leaves on the remote.

    Refs that are there already count too: their objects may not be. Nothing is pushed, and no hook runs.
    Where git would refuse, there is nothing; the push that follows says why.
    """
    plan = workspace.git.run("push", "--dry-run", "--no-verify", "--porcelain", *arguments, check=False)
    names = []
    for line in plan.decode("utf-8", "surrogateescape").splitlines():
        fields = line.split("\t")
        if len(fields) == 3 and fields[0] not in ("!", "-"):
            names.append(fields[1].partition(":")[0])
    found = (workspace.objects.info(os.fsencode(name)) for name in dict.fromkeys(names) if name)
    return list(dict.fromkeys(info[0] for info in found if info is not None))


def default_remote(workspace: Workspace) -> str:
    """The remote that ``git push`` takes when none is named.

    Raises:
        UsageError: there is none.
    """
    config = workspace.config
    branch = workspace.git.run("symbolic-ref", "--quiet", "--short", "HEAD", check=False).decode().strip()
    keys = (f"branch.{branch}.pushRemote", "remote.pushDefault", f"branch.{branch}.remote")
    for key in keys:
        value = config.get(key)
        if value:
            return value
    names = [key[7:-4] for key, _ in config.items() if key.startswith("remote.") and key.endswith(".url")]
    if "origin" in names or not names:
        return "origin"
    return names[0] if len(names) == 1 else "origin"


def _remote_argument(arguments: Sequence[str]) -> str:
    words = iter(arguments)
    for word in words:
        if word.startswith("--repo="):
            return word.partition("=")[2]
        if word == "--repo":
            return next(words, "")
        if word in _TAKE_A_VALUE:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return ""


def _told(tips: Sequence[str]) -> dict[str, str]:
    value = ",".join(tips)
    return {PUSHED: value} if len(value) <= _LONGEST_VALUE else {}


def _summary(report: PushReport, *, dry_run: bool) -> str:
    objects = f"{report.sent} object{'s' if report.sent != 1 else ''}"
    size = format_size(report.sent_bytes)
    if dry_run:
        return f"would send {objects} (about {size}) to {report.remote}"
    packs = f"{report.packs} pack{'s' if report.packs != 1 else ''}"
    return f"sent {objects} ({size}, {packs}) to {report.remote}"
