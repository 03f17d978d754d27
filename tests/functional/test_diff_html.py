"""The page of a comparison in a real browser: what is seen when somebody clicks, types, and prints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pytest

from coral_git.diff.html import render

from .chromium import PROGRAM, Page, browser

pytestmark = pytest.mark.skipif(PROGRAM is None, reason="Chromium is not installed")

NONE = (
    "norm",
    "new_norm",
    "delta_norm",
    "relative",
    "max_delta",
    "cosine",
    "share",
    "changed",
    "values",
    "zeros",
    "old_zeros",
    "nans",
    "infinities",
    "rank",
    "histogram",
)
ROLES = ("attn.q.weight", "attn.k.weight", "mlp.weight", "norm.weight")
HEADS = "#tensors thead th"
NAMES = "#tensors tbody th"


def tensor_of(name: str, relative: float | None, **others: object) -> dict[str, object]:
    """A tensor of a report; without a relative change it has no figures at all."""
    figures: dict[str, object] = dict.fromkeys(NONE)
    if relative is not None:
        figures |= {"norm": 8.0, "new_norm": 8.5, "delta_norm": 8 * relative, "relative": relative}
        figures |= {"max_delta": relative / 3, "cosine": 1 - relative**2, "share": 0.25, "changed": 16}
        figures |= {"values": 64, "zeros": 1, "old_zeros": 0, "nans": 0, "infinities": 0}
        figures["histogram"] = {"edges": [-2.0, -1.0, 0.0, 1.0, 2.0], "counts": [3, 1000, 0, 5]}
    return {
        "name": name,
        "old_name": name,
        "status": "changed",
        "dtype": "F32",
        "old_dtype": "F32",
        "shape": [8, 8],
        "old_shape": [8, 8],
        "raw_bytes": 256,
        "stored_bytes": 32,
        **figures,
        **others,
    }


def file_of(path: str, tensors: list[dict[str, object]]) -> dict[str, object]:
    return {
        "path": path,
        "old_path": path,
        "status": "changed",
        "verdict": "full fine-tune",
        "same": 3,
        "raw_bytes": 256 * len(tensors),
        "stored_bytes": 32 * len(tensors),
        "old_sha256": "a" * 64,
        "new_sha256": "b" * 64,
        "tensors": tensors,
    }


def report_of(*files: dict[str, object]) -> dict[str, object]:
    return {"files": [*files], "total": {"files": len(files), "raw_bytes": 2560, "stored_bytes": 320}}


def layers(count: int, prefix: str = "h") -> list[dict[str, object]]:
    """Tensors of layers in the order of their names as texts, as writers of safetensors have them."""
    names = sorted(f"{prefix}.{layer}.{role}" for layer in range(count) for role in ROLES)
    return [tensor_of(name, (7 * place % 11 + 1) / 100) for place, name in enumerate(names)]


def model() -> dict[str, object]:
    tensors = layers(12)
    tensors.insert(5, tensor_of("head.weight", None, status="added", old_name=None, old_shape=None))
    tensors.append(tensor_of("head.bias", 1e-7, shape=[8], old_shape=[8], nans=2))
    return report_of(file_of("model.safetensors", tensors))


@pytest.fixture(scope="module")
def chromium() -> Iterator[Page]:
    with browser() as page:
        page.prefer("light")
        page.resize(1280, 900)
        yield page


@pytest.fixture
def visit(chromium, tmp_path) -> Iterator[Callable[[dict[str, object]], Page]]:
    """Open the page of a report; it must load nothing else, and have nothing to complain about."""
    path = tmp_path / "report.html"

    def open_report(report: dict[str, object], title: str = "v1 → v2") -> Page:
        path.write_text(render(report, title), encoding="utf-8")
        chromium.open(path)
        return chromium

    yield open_report
    chromium.frame()
    assert chromium.requests == [path.as_uri()]
    assert chromium.complaints == []


def head(text: str) -> str:
    return f"#tensors thead th[data-key={text}] button"


def search(page: Page, text: str) -> None:
    page.click("#search")
    page.value("document.activeElement.select()")
    page.type(text)


def names_of(report: dict[str, object]) -> list[str]:
    return [one["name"] for file in report["files"] for one in file["tensors"]]


def test_a_click_on_a_head_sorts(visit):
    report = model()
    page = visit(report)
    tensors = report["files"][0]["tensors"]
    in_order = names_of(report)
    assert page.texts(NAMES) == in_order
    figures = [one for one in tensors if one["relative"] is not None]
    for direction, sign in (("descending", -1), ("ascending", 1)):
        page.click(head("relative"))
        expected = [one["name"] for one in sorted(figures, key=lambda one: sign * one["relative"])]
        assert page.texts(NAMES) == [*expected, "head.weight"]
        assert (
            page.value("[...document.querySelectorAll('#tensors [aria-sort]')].map(e => e.ariaSort)").count(
                "none"
            )
            == len(page.texts(HEADS)) - 1
        )
        assert page.value(f"document.querySelector('{head('relative')}').parentElement.ariaSort") == direction
    page.click(head("relative"))
    assert page.texts(NAMES) == in_order


def test_names_are_sorted_by_their_numbers(visit):
    page = visit(model())
    page.click(head("name"))
    names = page.texts(NAMES)
    assert names[:2] == ["h.0.attn.k.weight", "h.0.attn.q.weight"]
    assert names.index("h.2.mlp.weight") < names.index("h.10.mlp.weight") < names.index("head.bias")


def test_a_search_finds_texts_and_globs(visit):
    report = model()
    page = visit(report)
    page.click(head("name"))
    search(page, "ATTN.q")
    assert page.texts(NAMES) == [f"h.{layer}.attn.q.weight" for layer in range(12)]
    assert page.texts("#count") == ["12 of 50 tensors"]
    search(page, "h.1[01].*")
    assert page.texts(NAMES) == [f"h.{layer}.{role}" for layer in (10, 11) for role in sorted(ROLES)]
    search(page, "head.?ias")
    assert page.texts(NAMES) == ["head.bias"]
    for nothing in ("(", "ead.*", "*.wei", "[b-a]*"):
        search(page, nothing)
        assert page.texts(NAMES) == []
    search(page, "head.weigh[!a-s]")
    assert page.texts(NAMES) == ["head.weight"]
    search(page, " ")
    assert sorted(page.texts(NAMES)) == sorted(names_of(report))


def test_a_status_can_be_chosen(visit):
    page = visit(model())
    assert page.texts("#statuses button") == ["changed 49", "added 1"]
    page.click("#statuses button:last-child")
    assert page.texts(NAMES) == ["head.weight"]
    page.click("#statuses button:last-child")
    assert len(page.texts(NAMES)) == 50


def test_a_row_opens_with_figures_and_a_histogram(visit):
    page = visit(model())
    page.click(f"{NAMES} button")
    assert page.value("document.querySelector('#tensors tbody button').ariaExpanded") == "true"
    assert page.value("document.querySelectorAll('.detail svg.histogram rect').length") == 3
    heights = page.value("[...document.querySelectorAll('.detail rect')].map(e => e.getBBox().height)")
    assert [height / heights[1] for height in heights] == pytest.approx(
        [math.log(count + 1) / math.log(1001) for count in (3, 1000, 5)]
    )
    assert "16 of 64 values" in page.texts(".detail dd")
    page.click(f"{NAMES} button")
    assert page.texts(".detail") == []


def test_the_heat_map_has_a_row_for_each_layer(visit):
    page = visit(model())
    assert page.texts(".grid:first-child tbody th") == [f"h.{layer}" for layer in range(12)]
    assert page.texts(".grid:first-child thead th") == sorted(ROLES)
    assert page.texts(".grid:last-child tbody th") == ["head"]
    cells = "[...document.querySelectorAll('.grid button:not(.void)')]"
    shades = page.value(f"{cells}.map(e => getComputedStyle(e).backgroundColor)")
    assert len(shades) == 49
    assert len(set(shades)) == 12
    page.hover('.grid [aria-label^="h.3, mlp.weight"]')
    assert page.texts("#tip b") == ["h.3.mlp.weight"]
    assert "25.0\u00a0%" in page.texts("#tip dd")
    page.click("#metrics button:last-child")
    assert page.texts(".grid:first-child thead th") == page.texts("#metrics button")[:-1]


def test_a_cell_leads_to_its_tensor(visit):
    page = visit(model())
    search(page, "head")
    page.click("#statuses button:last-child")
    page.click('.grid [aria-label^="h.7, norm.weight"]')
    assert page.value("document.activeElement.innerText") == "h.7.norm.weight"
    assert page.value("document.activeElement.ariaExpanded") == "true"
    assert page.value("document.getElementById('search').value") == ""
    assert len(page.texts(NAMES)) == 50


def test_everything_can_be_done_with_the_keyboard(visit):
    page = visit(model())
    page.value(f"document.querySelector('{head('name')}').focus()")
    page.press("Enter")
    assert page.texts(NAMES)[0] == "h.0.attn.k.weight"
    page.value("document.querySelector('.grid button[tabindex=\"0\"]').focus()")
    for key in ("ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowDown"):
        page.press(key)
    assert page.value("document.activeElement.ariaLabel").startswith("h.1, mlp.weight: ")
    assert page.texts("#tip b") == ["h.1.mlp.weight"]
    page.press("Enter")
    assert page.value("document.activeElement.innerText") == "h.1.mlp.weight"


def test_hostile_names_are_texts(visit):
    names = [
        "</script><img src=x onerror=document.title=1>.0.w",
        "\u202eevil\u202c\x1b[31m",
        "<b>x</b>.3.w",
        "",
    ]
    page = visit(report_of(file_of("<i>.bin", [tensor_of(one, 0.1) for one in names])), "<u>v1</u>")
    shown = [names[0], "\\u202eevil\\u202c\\x1b[31m", names[2], "(no name)"]
    assert page.texts(NAMES) == shown
    page.click(f"{NAMES} button")
    assert page.texts("h1") == ["<u>v1</u>"]
    assert page.value("document.querySelectorAll('img, b:not(#tip b), i:not(.ramp i), u').length") == 0
    assert page.value("document.title") == "<u>v1</u> · git coral diff"


def test_files_can_be_seen_alone(visit):
    page = visit(report_of(file_of("a/one.bin", layers(2)), file_of("a/two.bin", layers(3, "g"))))
    assert len(page.texts(NAMES)) == 20
    assert "File" in page.texts(HEADS)
    page.click("#files li:last-child button")
    assert page.texts(NAMES) == names_of({"files": [file_of("", layers(3, "g"))]})
    assert page.texts(".grid tbody th") == ["g.0", "g.1", "g.2"]
    assert "File" not in page.texts(HEADS)


def test_what_has_no_figures_has_a_heat_map_too(visit):
    page = visit(report_of(file_of("one.bin", layers(2)), file_of("two.bin", [tensor_of("h.0.w", None)])))
    page.click("#metrics button:last-child")
    page.click("#files li:last-child button")
    assert page.texts(".grid thead th") == ["w"]
    assert page.texts(NAMES) == ["h.0.w"]
    page.click(f"{NAMES} button")
    assert page.texts(".details") == ["no values to compare"]


def test_thousands_of_tensors_are_shown_as_they_are_needed(visit):
    report = report_of(file_of("big.bin", layers(1250)))
    page = visit(report)
    rows = "document.querySelectorAll('#tensors tbody tr').length"
    assert page.value(rows) < 500
    page.click(head("relative"))
    search(page, "h.1249.")
    assert sorted(page.texts(NAMES)) == [f"h.1249.{role}" for role in sorted(ROLES)]
    search(page, " ")
    before = page.value(rows)
    page.value("window.scrollTo(0, document.body.scrollHeight)")
    page.frame()
    assert before < page.value(rows) < 5000


def test_all_rows_are_printed(visit):
    page = visit(report_of(file_of("big.bin", layers(50))))
    rows = "document.querySelectorAll('#tensors tbody tr').length"
    assert page.value(rows) < 200
    page.call("Page.printToPDF")
    assert page.value(rows) == 200


def test_the_page_is_dark_where_that_is_preferred(visit):
    page = visit(model())
    shade = "getComputedStyle(document.body).backgroundColor"
    assert page.value(shade) == "rgb(255, 255, 255)"
    page.prefer("dark")
    assert page.value(shade) == "rgb(23, 22, 21)"
    page.prefer("dark", "print")
    assert page.value(shade) == "rgb(255, 255, 255)"
    page.prefer("light")


def test_a_comparison_that_found_nothing_says_so(visit):
    page = visit({"files": [], "total": {"files": 0, "raw_bytes": 0, "stored_bytes": 0}})
    assert page.texts("#summary") == ["no weight file differs"]
    assert page.value("document.getElementById('list').hidden") is True
