"""Snakemake's own report in a real browser: every category and entry, pictures, tables, graph."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import STUDY
from micro import Checkout
from page import Report, browser

CATEGORIES = {
    "Claims": ["Claims"],
    "Comparison with the published numbers": ["Table  5: A grid"],
    "Figures": [
        "Figure  3: A line", "The same (figure_masks)", "The same (figure_matching)", "Training",
    ],
    "Settings and provenance": [
        "Experiments", "Provenance of the runs", "Settings of all recipes in use",
    ],
    "Tables": ["Differences", "Table  5: A grid", "Table 12: Recipes"],
}  # fmt: skip


@pytest.fixture(scope="module")
def report(results: Path) -> Iterator[Report]:
    """The report, open in a browser without a network."""
    with browser() as driver:
        yield Report(driver, results / "archive.html")


@pytest.fixture(autouse=True)
def quiet(report: Report) -> Iterator[None]:
    """After every test: no error in the console, and nothing was asked of any network."""
    yield
    assert report.errors() == []
    assert report.requests() == []


def entries(report: Report) -> Iterator[tuple[str, int, str]]:
    """Category, place and name of every entry, its category open in the menu."""
    for category in report.categories():
        for place, label in enumerate(report.open(category)):
            yield category, place, label


def test_categories_and_names(report: Report) -> None:
    found: dict[str, list[str]] = {}
    for category, _, label in entries(report):
        found.setdefault(category, []).append(label)
    assert found == {
        category: [re.sub(r"(?<=[a-z] ) (?=\d)", "\u2007", label) for label in labels]
        for category, labels in CATEGORIES.items()
    }
    assert report.driver.title == STUDY["title"]


def test_every_picture_has_pixels_and_a_caption(report: Report) -> None:
    seen = 0
    for category, place, label in entries(report):
        if report.show(place) != "img":
            continue
        assert category == "Figures"
        picture = report.picture()
        assert min(picture["natural"]) > 100 and min(picture["picture"]) > 100
        assert picture["alt"] == label
        assert "Seeds: 1 pair (a–b): 0–1." in picture["caption"]
        seen += 1
    assert seen == len(CATEGORIES["Figures"])


def test_every_table_has_rows_of_one_width_each_filled(report: Report) -> None:
    seen = 0
    for _, place, label in entries(report):
        if report.show(place) != "iframe":
            continue
        head, *rows = report.table()
        assert all(head[1:]), label
        assert rows, label
        assert all(any(cell for cell in row) for row in rows), label
        seen += 1
    assert seen == sum(len(labels) for labels in CATEGORIES.values()) - len(CATEGORIES["Figures"])


def test_captions_say_what_which_protocol_and_seeds(report: Report) -> None:
    said: dict[str, str] = {}
    for category in report.categories():
        for place, label in enumerate(report.open(category)):
            said[f"{category}/{label}"] = report.describe(place)
            report.open(category)
    assert len(said) == sum(len(labels) for labels in CATEGORIES.values())
    for name, caption in said.items():
        assert "Protocol: the paper's text." in caption, name
        assert len(caption) > 60, name
    grid = next(text for name, text in said.items() if name.endswith("5: A grid"))
    assert "A note below. " in grid and "Seeds: 1 pair (a–b): 0–1." in grid
    assert "Seeds" not in said["Tables/Table 12: Recipes"]  # it shows no runs
    assert "Seeds" in said["Claims/Claims"]


def test_figures_are_enlarged_where_clicked(report: Report) -> None:
    report.open("Figures")
    report.show(0)
    whole = report.picture()["picture"]
    for zoom in (2, 4, 1):
        report.click_figure(0.5, 0.5)
        found = report.picture()
        assert found["picture"] == pytest.approx([zoom * side for side in whole], rel=0.02)
        assert found["middle"] == pytest.approx([0, 0], abs=4 if zoom > 1 else 100)
    report.click_figure(0.3, 0.4)  # that place comes to the middle
    away = [0.2 * 2 * whole[0], 0.1 * 2 * whole[1]]
    assert report.picture()["middle"] == pytest.approx(away, abs=4)
    report.show(1)  # the next one is shown whole again
    report.picture()
    assert report.js("return document.querySelectorAll('#app .zoomed').length") == 0


def test_graph_and_runtimes_are_drawn(report: Report) -> None:
    report.home()
    report.click("Workflow")
    assert report.painted("#rulegraph canvas") > 5
    report.click("Statistics")
    assert report.painted("#runtimes canvas") > 5 and report.painted("#timeline canvas") > 5


def test_the_first_page_leads_to_every_category(report: Report) -> None:
    for category, labels in CATEGORIES.items():
        report.home()
        report.click("Workflow")
        report.wait("return !!document.querySelector('#app .prose a')")
        item = report.driver.find_element(
            "xpath", f"//*[@class='simple']/li[contains(., {category!r})]"
        )
        assert item.text == f"{category}: {len(labels)}"
        item.find_element("css selector", "a").click()
        report.wait(
            "return document.querySelectorAll('#app nav tbody tr').length === arguments[0]",
            len(labels),
        )


def test_provenance_counts_the_runs(report: Report) -> None:
    place = report.open("Settings and provenance").index("Provenance of the runs")
    report.show(place)
    head, *rows = report.table()
    runs = {row[0]: row[head.index("Runs")] for row in rows}
    assert runs == {
        "Dense runs": "2", "IMP rounds": "1", "Masks": "1", "Permutations": "1", "Sparse runs": "3",
        "Interpolations": "1",
    }  # fmt: skip
    assert all(row[head.index("Missing")] == "–" for row in rows)


def test_settings_are_the_resolved_ones(report: Report) -> None:
    place = report.open("Settings and provenance").index("Settings of all recipes in use")
    report.show(place)
    cells = [cell for row in report.table() for cell in row]
    for name in ("dense-micro", "imp-micro", "activations", "sparse-micro", "line-micro", "digits"):
        assert name in cells
    assert "sparse-other" not in cells
    assert "peak learning rate" in cells


def test_a_second_run_makes_no_report_again(checkout: Checkout) -> None:
    # the runs were there: only what is made of them was made
    assert checkout.steps == {
        "table": 4, "comparison": 1, "figure": 4, "settings": 1, "provenance": 1,
        "render_report": 1, "archive": 1, "report": 1,
    }  # fmt: skip
    assert checkout.plan("report") == {}
