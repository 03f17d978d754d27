"""Names in manifests and text on terminals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coral_git.manifest.escape import escape_name, printable, unescape_name


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_every_name_comes_back(name: str) -> None:
    text = escape_name(name)
    assert text
    assert set(text.encode("ascii")) <= set(range(0x21, 0x7F))
    assert unescape_name(text) == name


@given(st.text(st.sampled_from("\\x0a1fcC3 z\n")))
def test_every_name_has_one_spelling(text: str) -> None:
    try:
        name = unescape_name(text)
    except ValueError:
        return
    assert escape_name(name) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.b/c-d_0", "a.b/c-d_0"),
        ("", "\\"),
        ("\\", "\\x5c"),
        ("a b\n", "a\\x20b\\x0a"),
        ("ä\x7f", "\\xc3\\xa4\\x7f"),
        ("\U0001f600", "\\xf0\\x9f\\x98\\x80"),
    ],
)
def test_names_look_like_this_for_ever(name: str, text: str) -> None:
    assert escape_name(name) == text
    assert unescape_name(text) == name


def test_half_characters_have_no_name() -> None:
    with pytest.raises(UnicodeEncodeError):
        escape_name("\ud800")


@given(st.text(st.characters()))
def test_printable_text_is_printable(text: str) -> None:
    assert printable(text).isprintable()


def test_terminals_are_safe() -> None:
    assert printable("ok ä") == "ok ä"
    assert printable("\x1b[2J\u202e\n") == "\\x1b[2J\\u202e\\x0a"
    assert printable("\U000e0001") == "\\U000e0001"
