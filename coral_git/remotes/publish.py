"""Pushing packs to a git remote: objects, refs that are only ever created, proof."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from coral_git.errors import GitError, IntegrityError, RemoteError
from coral_git.remotes.base import PackUpload
from coral_git.remotes.commits import Commits
from coral_git.remotes.messages import escape_lines
from coral_git.remotes.scratch import Scratch, is_wrong_format

_PACKS_PER_PUSH = 128
_ATTEMPTS = 3

ListRefs = Callable[[], Mapping[str, str]]
"""Asks a remote for its refs and the ids they point at."""


def upload_batches(uploads: Sequence[PackUpload], most_bytes: int) -> Iterator[list[PackUpload]]:
    """Cut uploads into batches of bounded length and number; a pack over the bound is a batch of its own.

    Raises:
        OSError: a pack cannot be read.
    """
    batch: list[PackUpload] = []
    total = 0
    for upload in uploads:
        length = os.path.getsize(upload.path) + len(upload.index)
        if batch and (total + length > most_bytes or len(batch) >= _PACKS_PER_PUSH):
            yield batch
            batch, total = [], 0
        batch.append(upload)
        total += length
    if batch:
        yield batch


def publish(scratch: Scratch, target: str, commits: Commits, list_refs: ListRefs, name: str) -> None:
    """Create the refs of the packs, then those of the indexes, and prove that the remote has all of them.

    Args:
        scratch: holds the commits.
        target: the remote, by its name in the scratch repository.
        commits: what to create.
        list_refs: asks the remote what it has.
        name: the remote, for messages.

    Raises:
        IntegrityError: the remote has something else under one of the names.
        RemoteError: the remote refused.
        GitError: it cannot be reached.
    """
    for refs in (commits.packs, commits.indexes):
        _create_all(scratch, target, refs, list_refs, name)
    there = list_refs()
    wanted = {**commits.packs, **commits.indexes}
    _refuse_others(wanted, there, name)
    absent = [ref for ref in wanted if ref not in there]
    if absent:
        raise RemoteError(
            f"remote '{name}' accepted the push but does not show '{absent[0]}'", hint=_hint(absent[0])
        )


def _create_all(
    scratch: Scratch, target: str, refs: Mapping[str, str], list_refs: ListRefs, name: str
) -> None:
    """Push refs; when git reports a failure, look which are missing and try these again.

    Two pushes of the same packs at the same time make one of them fail although all is well afterwards.
    """
    missing = dict(refs)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _push_refs(scratch, target, missing)
        except GitError as error:
            if is_wrong_format(error):
                raise
            there = list_refs()
            _refuse_others(refs, there, name)
            left = {ref: commit for ref, commit in missing.items() if ref not in there}
            if left and (len(left) == len(missing) or attempt == _ATTEMPTS):
                raise _refusal(error, next(iter(left)), name) from error
            missing = left
        else:
            return
        if not missing:
            return


def _push_refs(scratch: Scratch, target: str, refs: Mapping[str, str]) -> None:
    """One push that only creates: git refuses a lease on nothing when the ref has another id."""
    scratch.git.run(
        "push",
        "--quiet",
        "--no-verify",
        *(f"--force-with-lease={ref}:" for ref in refs),
        target,
        *(f"{commit}:{ref}" for ref, commit in refs.items()),
    )


def _refuse_others(wanted: Mapping[str, str], there: Mapping[str, str], name: str) -> None:
    for ref, commit in wanted.items():
        if there.get(ref, commit) != commit:
            raise IntegrityError(
                f"the ref '{ref}' of remote '{name}' holds something else",
                hint=f"if nobody needs it: git push REMOTE --delete {ref}",
            )


def _refusal(error: GitError, ref: str, name: str) -> GitError | RemoteError:
    """A remote that answered and said no is told apart from one that git could not talk to."""
    if "rejected" not in error.message:
        return error
    return RemoteError(f"remote '{name}' refused '{ref}': {escape_lines(error.message)}", hint=_hint(ref))


def _hint(ref: str) -> str:
    if ref.startswith("refs/heads/"):
        return "ask whether you may push there"
    return "some hosts refuse such refs: git config coral.refPrefix refs/heads/coral"
