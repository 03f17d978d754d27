"""The page of a comparison: whatever the report says, it is the same markup, and asks for nothing."""

from __future__ import annotations

import html
import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coral_git.diff.html import render
from coral_git.manifest.escape import printable

HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]>&lt;/script&gt;",
    "\u202egpj.exe\u202c",
    "\u2028\u2029\x00\x1b[31m",
    "\ud800",
    '"\\',
    "@report@ @script@",
    "",
)


class Markup(HTMLParser):
    """What a page is made of: tags with their attributes, and the text of the report."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, object]] = []
        self.text = ""
        self.title = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_endtag(self, tag):
        self.tags.append((tag, None))

    def handle_data(self, data):
        tag, attrs = self.tags[-1] if self.tags else ("", None)
        if (tag, attrs) == ("script", [("id", "report"), ("type", "application/json")]):
            self.text += data
        if tag == "title" and attrs is not None:
            self.title += data


def report_of(name: str) -> dict[str, object]:
    tensor = {
        "name": name,
        "old_name": name,
        "status": "changed",
        "dtype": "F32",
        "relative": 0.5,
        "norm": None,
    }
    file = {"path": name, "old_path": name, "verdict": name, "tensors": [tensor]}
    return {"files": [file], "total": {"files": 1, "raw_bytes": 4, "stored_bytes": None}}


ORDINARY = Markup(render(report_of("layer.0.weight"), "v1 → v2"))


def test_page_holds_the_report_and_the_title():
    assert json.loads(ORDINARY.text) == report_of("layer.0.weight")
    assert ORDINARY.title == "v1 → v2 · git coral diff"


@given(name=st.text(), title=st.text())
@example(name=HOSTILE[0], title=HOSTILE[0])
@example(name=HOSTILE[1], title=HOSTILE[1])
@example(name=HOSTILE[5], title=HOSTILE[5])
@example(name=HOSTILE[7], title=HOSTILE[7])
def test_no_name_changes_the_markup(name, title):
    page = render(report_of(name), title)
    found = Markup(page)
    assert found.tags == ORDINARY.tags
    assert json.loads(found.text) == report_of(printable(name))
    assert f"<bdi>{html.escape(printable(title))}</bdi>" in page


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_terminals_show_them(name):
    page = render(report_of(name), name)
    assert page.encode()
    assert all(char.isprintable() or char == "\n" for char in page)
    ((_, data),) = re.findall(r'(<script id="report"[^>]*>)(.*)</script>', page)
    assert not set("<>&") & set(data)
    assert data.isascii()
    assert json.loads(data)["files"][0]["tensors"][0]["name"] == printable(name)


def test_page_asks_for_nothing():
    page = render(report_of("layer.0.weight"), "v1 → v2")
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    assert ("meta", [("http-equiv", "Content-Security-Policy"), ("content", policy)]) in ORDINARY.tags
    assert not re.search(
        r"https?:|//[a-z]+\.|\burl\(|@import|\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket", page
    )
    names = {name for _, attributes in ORDINARY.tags for name, _ in attributes or ()}
    assert not names & {"src", "srcset", "href", "action", "data", "poster"}


def test_scripts_make_no_markup_of_text():
    folder = files("coral_git.diff").joinpath("page")
    scripts = [one.read_text(encoding="utf-8") for one in folder.iterdir() if one.name.endswith(".js")]
    assert len(scripts) > 3
    for script in scripts:
        assert not re.search(
            r"HTML|document\.write|\beval\b|\bFunction\b|setTimeout|\.style\s*=|srcdoc", script
        )
        assert "</script" not in script


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_json_does_not_know_are_refused(value):
    report = {"files": [], "total": {"files": 0, "raw_bytes": value, "stored_bytes": None}}
    with pytest.raises(ValueError, match="JSON"):
        render(report, "v1 → v2")
