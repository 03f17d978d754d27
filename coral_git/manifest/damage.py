"""What happened to a text that was a manifest once, in words for its owner."""

from __future__ import annotations

_BOM = b"\xef\xbb\xbf"
_TAKE_ONE = "git checkout --ours -- PATH or git checkout --theirs -- PATH"
_RESOLVE = (
    "merge the versions that it was made of: git coral resolve PATH --strategy average (or ours, theirs, …)"
)
_AFTER_MERGE = f"take one side's: {_TAKE_ONE} (git checkout --merge -- PATH brings the conflict back)"
_RESTORE = f"take a version as a whole: git checkout HEAD -- PATH, or in a merge {_TAKE_ONE}"
_LINE_ENDS = "exempt PATH with '-text' in .gitattributes, then git checkout HEAD -- PATH"


def describe_damage(text: bytes) -> str:
    """What probably happened to a text that begins as a manifest and is none: one line, without its path."""
    if has_conflict_markers(text):
        return "it holds conflict markers"
    if text.startswith(_BOM):
        return "a byte order mark was put before it"
    if b"\r" in text:
        return "its line ends were converted to CRLF"
    if not text.endswith(b"\n"):
        return "its end is missing"
    return "lines of two versions are mixed, or it was edited by hand"


def repair_hint(text: bytes) -> str:
    """What to type to have a whole manifest again."""
    if text.startswith(_BOM) or b"\r" in text or not text.endswith(b"\n"):
        return restore_hint(text)
    return f"{_RESOLVE}\n{restore_hint(text)}"


def restore_hint(text: bytes) -> str:
    """What to type to have a whole manifest again, where its versions are not known."""
    if has_conflict_markers(text):
        return _AFTER_MERGE
    if text.startswith(_BOM) or b"\r" in text:
        return _LINE_ENDS
    return _RESTORE


def has_conflict_markers(text: bytes) -> bool:
    """Whether git's conflict markers stand at the beginning of a line."""
    return any(text.startswith(mark) or b"\n" + mark in text for mark in (b"<<<<<<< ", b">>>>>>> "))


def without_wrapping(head: bytes) -> bytes:
    """The head of a text without a byte order mark or a conflict marker's line before its first line."""
    head = head.removeprefix(_BOM)
    if head.startswith(b"<<<<<<< "):
        return head.partition(b"\n")[2]
    return head
