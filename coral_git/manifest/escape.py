"""Tensor names as manifests write them, and untrusted text as terminals may see it."""

from __future__ import annotations

_PLAIN = frozenset(range(0x21, 0x7F)) - {ord("\\")}
_EMPTY = "\\"


def escape_name(name: str) -> str:
    r"""A name in a manifest: bytes of its UTF-8 outside 0x21..0x7e and the backslash as ``\xNN``.

    The empty name is a lone backslash.

    Raises:
        UnicodeEncodeError: the name holds a lone surrogate.
    """
    if name.isascii() and name.isprintable() and " " not in name and "\\" not in name:
        return name or _EMPTY
    return "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in name.encode())


def unescape_name(text: str) -> str:
    """The name that ``escape_name`` wrote.

    Raises:
        ValueError: nothing that ``escape_name`` writes.
    """
    if "\\" not in text and text.isascii() and text.isprintable() and " " not in text and text:
        return text
    if text == _EMPTY:
        return ""
    first, *others = text.split("\\")
    pieces = [first.encode("ascii")]
    for other in others:
        pieces.append(bytes.fromhex(other[1:3]))
        pieces.append(other[3:].encode("ascii"))
    name = b"".join(pieces).decode("utf-8")
    if escape_name(name) != text:
        raise ValueError("not in canonical form")
    return name


def printable(text: str) -> str:
    r"""A text that cannot control a terminal: the rest as ``\xNN``, ``\uNNNN``, ``\UNNNNNNNN``."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape_char(ord(char)) for char in text)


def _escape_char(code: int) -> str:
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
