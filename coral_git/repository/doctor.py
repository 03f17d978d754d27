"""What could go wrong in this place, found before it does; every finding comes with its remedy."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from coral_git import __version__
from coral_git.codecs import kernels
from coral_git.errors import CoralError, UsageError
from coral_git.git import drivers, hooks
from coral_git.git.attributes import check_attr
from coral_git.git.command import Git
from coral_git.git.hook_folder import locate
from coral_git.git.revisions import TreeEntry, has_commits
from coral_git.manifest.escape import printable
from coral_git.pipeline.manifests import read_manifest
from coral_git.pipeline.workspace import Workspace
from coral_git.repository.listing import list_weights, tree_entries

OLDEST_GIT = (2, 35)
"""The first git with everything that is used."""

_RIGHT_SIZES_GIT = (2, 43)
_FOUR_GIB = 1 << 32
_NETWORK = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "gpfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.gcsfuse", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs"),
    }
)
_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """Something the user should know.

    Attributes:
        level: ``"error"`` (something does not work), ``"warning"`` (it works until…) or ``"note"``.
        check: a word for programs, e.g. ``"hook"``.
        message: what was found; lower case, no full stop.
        remedy: what to type or to do; one step per line.
    """

    level: str
    check: str
    message: str
    remedy: str


def facts(workspace: Workspace | None) -> dict[str, str]:
    """What somebody who is to help would ask first."""
    git = Git() if workspace is None else workspace.git
    known = {
        "coral-git": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
        "git": ".".join(map(str, git.version)),
        "kernel": kernels.KERNEL_NAME,
    }
    if workspace is not None:
        known["store"] = workspace.store_root
        known["file system"] = file_system(workspace.paths.common_dir) or "unknown"
    return known


def examine(workspace: Workspace | None) -> Iterator[Finding]:
    """Every check; those that need a repository are left out where there is none."""
    git = Git() if workspace is None else workspace.git
    yield from _check_git(git)
    yield from _check_kernel()
    if workspace is None:
        yield from _check_drivers(git)
        return
    yield from check_setup(workspace)
    yield from _check_traps(workspace)
    yield from _check_head(workspace)
    place = list(_check_place(workspace))
    yield from place
    if not any(finding.level == "error" for finding in place):
        yield from _check_files(workspace)


def check_setup(workspace: Workspace) -> Iterator[Finding]:
    """The drivers and the pre-push hook."""
    yield from _check_drivers(workspace.git)
    yield from _check_hook(workspace)


def file_system(path: str) -> str:
    """The type of the file system that a path is on, as Linux names it; empty where it cannot be told."""
    path = os.path.realpath(path)
    best = kind = ""
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                fields = line.split(" ")
                point = fields[1].replace("\\040", " ")
                if f"{path}/".startswith(f"{point.rstrip('/')}/") and len(point) >= len(best):
                    best, kind = point, fields[2]
    except (OSError, IndexError):
        return ""
    return kind


def _check_git(git: Git) -> Iterator[Finding]:
    if git.version < OLDEST_GIT:
        found, needed = (".".join(map(str, version)) for version in (git.version, OLDEST_GIT))
        yield Finding("error", "git-version", f"git {found} is too old", f"install git {needed} or newer")


def _check_kernel() -> Iterator[Finding]:
    if kernels.KERNEL_NAME == "numpy" and os.environ.get("CORAL_KERNEL") != "numpy":
        yield Finding(
            "note",
            "kernel",
            "the compiled kernel is not installed; numpy does its work, slower",
            "install a C compiler, then: pip install --force-reinstall --no-binary coral-git coral-git",
        )


def _check_drivers(git: Git) -> Iterator[Finding]:
    try:
        program = drivers.find_program()
    except UsageError as error:
        yield Finding("error", "program", error.message, error.hint)
        return
    report = drivers.inspect(git, program)
    scope = f"--{report.scope}" if report.scope in drivers.SCOPES else ""
    if report.state is drivers.DriverState.ABSENT:
        yield Finding(
            "error",
            "drivers",
            "git does not know the filter 'coral': weights are added raw",
            "git coral install",
        )
    elif report.state is drivers.DriverState.FOREIGN:
        where = f" (in the {report.scope} configuration)" if report.scope else ""
        yield Finding(
            "error",
            "drivers",
            f"git has a filter or merge driver 'coral' that is not ours{where}",
            "git config --show-scope --get-regexp '(filter|merge).coral'\nremove it, then: git coral install",
        )
    elif report.state is drivers.DriverState.OUTDATED:
        yield Finding(
            "warning",
            "drivers",
            f"the drivers in the {report.scope or 'git'} configuration are not those of this installation"
            + (f" (they run '{printable(report.program)}')" if report.program else ""),
            f"git coral install {scope}".rstrip(),
        )
    if report.program and not _is_program(report.program):
        yield Finding(
            "error", "program", f"the drivers run '{printable(report.program)}', which is not there",
            f"git coral install {scope}".rstrip(),
        )  # fmt: skip
    elif os.path.isabs(program):
        yield Finding(
            "note",
            "program",
            f"'{drivers.PROGRAM}' is not on the login search path; git runs {printable(program)}",
            "when that environment is moved or removed, run 'git coral install' again",
        )


def _is_program(program: str) -> bool:
    """Whether git would find the program that a driver names."""
    if os.path.isabs(program):
        return os.access(program, os.X_OK)
    if program != drivers.PROGRAM:
        return True  # a command line of another form, which git's shell will judge
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return any(os.access(os.path.join(folder, program), os.X_OK) for folder in folders)


def _check_hook(workspace: Workspace) -> Iterator[Finding]:
    folder = locate(workspace.git, workspace.paths)
    try:
        program = drivers.find_program()
    except UsageError:
        program = drivers.PROGRAM
    report = hooks.inspect(folder, program)
    path = printable(report.path)
    if report.state is hooks.HookState.MISSING:
        message, remedy = (
            "there is no pre-push hook: 'git push' would leave weights behind",
            "git coral install",
        )
    elif report.advice:
        why = (
            "core.hooksPath leads there"
            if report.state is hooks.HookState.HOOKS_PATH
            else "it is not coral's"
        )
        message = f"the pre-push hook '{path}' does not push weights ({why})"
        remedy = f"add this line to it, or push with 'git coral push':\n    {report.advice}"
    elif report.state is hooks.HookState.FOREIGN:
        message, remedy = f"the pre-push hook '{path}' does not push weights", "git coral install"
    elif os.path.exists(report.path) and not os.access(report.path, os.X_OK):
        message = f"the pre-push hook '{path}' is not executable: git passes it by"
        remedy = f"chmod +x {shlex.quote(report.path)}"
    elif not report.is_current:
        message, remedy = f"the pre-push hook '{path}' is of another installation", "git coral install"
    else:
        return
    yield Finding("warning", "hook", message, remedy)


def _check_place(workspace: Workspace) -> Iterator[Finding]:
    """The store, and the file system it is on."""
    kind = file_system(workspace.paths.common_dir)
    if kind in _NETWORK:
        yield Finding(
            "warning",
            "file-system",
            f"the repository is on a network file system ({kind}), where locks and times are not reliable",
            "keep the clone on a local disk, or: git config coral.trustStat false",
        )
    if not workspace.has_store:
        yield Finding("note", "store", "this repository has no store yet", "git coral init")
        return
    try:
        layout = workspace.store.layout
    except CoralError as error:
        yield Finding("error", "store", error.message, error.hint)
        return
    remedy = f"chmod -R u+rwX {shlex.quote(layout.root)}"
    written = (layout.root, layout.packs, layout.incoming)
    if not os.access(layout.packs, os.R_OK | os.X_OK):
        yield Finding("error", "store", f"the store '{layout.root}' cannot be read", remedy)
    elif not all(os.access(folder, os.W_OK | os.X_OK) for folder in written):
        message = f"the store '{layout.root}' cannot be written: files can be checked out, not added"
        yield Finding("warning", "store", message, remedy)


def _check_traps(workspace: Workspace) -> Iterator[Finding]:
    """Settings of git that do harm together with weights."""
    config = workspace.config
    if config.get_bool("merge.renormalize"):
        yield Finding(
            "warning",
            "merge-renormalize",
            "merge.renormalize makes every merge read and write whole models through memory",
            "git config merge.renormalize false",
        )
    converts = (config.get("core.autocrlf") or "").lower() in ("true", "input", "yes", "on", "1")
    paths = [entry.path for entry in _tracked_entries(workspace)]
    if not paths:
        return
    texts = check_attr(workspace.git, paths, "text")
    converted = [path for path in paths if texts.get(path) in (b"set", b"auto")]
    if converts:
        converted += [path for path in paths if texts.get(path) == b"unspecified"]
    if converted:
        yield Finding(
            "warning",
            "line-ends",
            f"git may convert line ends in weight files: {_shown(converted)}",
            "git coral track again with the same pattern: it adds '-text'",
        )


def _check_head(workspace: Workspace) -> Iterator[Finding]:
    """Weights that were committed as they are, because no filter was there."""
    raw: list[bytes] = []
    broken: list[bytes] = []
    for entry in _tracked_entries(workspace):
        found = workspace.objects.info(entry.oid.encode())
        if found is None or found[2] == 0 or read_manifest(workspace, entry.oid.encode()) is not None:
            continue
        (broken if _claims(workspace, entry.oid, found[2]) else raw).append(entry.path)
    if raw:
        yield Finding(
            "error",
            "raw-weights",
            f"committed raw, although a pattern of coral-git matches: {_shown(raw)}",
            "git add --renormalize . && git commit\nthe raw bytes stay in history until it is rewritten",
        )
    if broken:
        yield Finding(
            "error",
            "damaged-manifest",
            f"committed with a damaged manifest: {_shown(broken)}",
            "git coral resolve PATH --strategy average, or git checkout GOOD_COMMIT -- PATH; then git commit",
        )


def _claims(workspace: Workspace, oid: str, size: int) -> bool:
    from coral_git.manifest.parse import claims_manifest

    if size > workspace.limits.manifest_bytes:
        return False
    found = workspace.objects.blob(oid.encode())
    return found is not None and claims_manifest(found[1])


def _tracked_entries(workspace: Workspace) -> list[TreeEntry]:
    """The files of HEAD that the filter handles."""
    if workspace.paths.work_tree is None or not has_commits(workspace.git):
        return []
    entries = [entry for entry in tree_entries(workspace, "HEAD") if entry.is_file]
    filters = check_attr(workspace.git, (entry.path for entry in entries), "filter")
    return [entry for entry in entries if filters.get(entry.path) == b"coral"]


def _check_files(workspace: Workspace) -> Iterator[Finding]:
    """Files of the index that are not, or cannot be, in the work tree."""
    if workspace.paths.work_tree is None:
        return
    files = list_weights(workspace)
    unfinished = [file.path for file in files if file.state in ("unfinished", "missing")]
    missing = [file.path for file in files if file.missing and file.state != "absent"]
    if missing:
        yield Finding(
            "error", "missing-objects", f"objects are missing of {_shown(missing)}", "git coral fetch"
        )
    if unfinished:
        yield Finding(
            "error",
            "unfinished",
            f"still manifests in the work tree: {_shown(unfinished)}",
            "git coral checkout",
        )
    aligned = [file.path for file in files if file.manifest.size and not file.manifest.size % _FOUR_GIB]
    if aligned and workspace.git.version < _RIGHT_SIZES_GIT:
        yield Finding(
            "note",
            "git-sizes",
            f"this git reads files of exactly n x 4 GiB at every status: {_shown(aligned)}",
            "install git 2.43 or newer",
        )


def _shown(paths: list[bytes]) -> str:
    named = ", ".join(f"'{printable(os.fsdecode(path))}'" for path in paths[:_NAMED])
    return named if len(paths) <= _NAMED else f"{named} and {len(paths) - _NAMED} more"
