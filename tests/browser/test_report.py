"""The report in a real browser: what it says, where its links lead, that it fits, on screen and paper."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import STUDY
from page import browser, errors, requests
from selenium.webdriver import Chrome
from small import REPOSITORY

ITEMS = [
    "claims", "table_5", "table_5.comparison", "table_12", "table_differences", "figure_3",
    "figure_masks", "figure_matching", "figure_training",
]  # fmt: skip


@pytest.fixture(scope="module", params=[1280, 400], ids=["wide", "narrow"])
def page(request: pytest.FixtureRequest, results: Path) -> Iterator[Chrome]:
    """The report, open in a browser without a network, on a screen of this many pixels."""
    with browser(request.param, 900) as driver:
        driver.get((results / "report.html").resolve().as_uri())
        yield driver


@pytest.fixture(autouse=True)
def quiet(page: Chrome) -> Iterator[None]:
    """After every test: no error in the console, and nothing was asked of any network."""
    yield
    assert errors(page) == [] and requests(page) == []


def js(page: Chrome, script: str, *arguments: Any) -> Any:
    return page.execute_script(script, *arguments)


def test_it_begins_with_what_was_run_and_what_came_out(page: Chrome) -> None:
    assert page.title == STUDY["title"]
    head = page.find_element("tag name", "header").text
    assert STUDY["title"] in head and "protocol: the paper's text" in head
    assert "Dense runs: 2; IMP rounds: 1; Masks: 1; Permutations: 1; " in head
    assert "epochs of training" in head and "missing" not in head
    assert re.search(r"ResNet20×0.25 / digits, S = 30%, k = 1: perm. − naive: [+−]\d", head)


def test_every_table_and_figure_has_its_caption_in_place(page: Chrome) -> None:
    found = js(
        page, "return [...document.querySelectorAll('main > section > article')].map(a => a.id)"
    )
    assert [name for name in found if not name.startswith("runs-")] == ITEMS
    headings = page.find_elements("css selector", "main > section > article > h3")
    assert headings[1].text == "Table 5: A grid"
    for name in ITEMS:
        article = page.find_element("id", name)
        caption = article.find_element("css selector", ".caption").text
        assert len(caption) > 60 and "CSV" in caption
        assert ("Protocol" in caption) == (name != "table_5.comparison")
        pictures = article.find_elements("tag name", "img")
        assert len(pictures) == name.startswith("figure")
        for picture in pictures:
            size = js(page, "return [arguments[0].naturalWidth, arguments[0].clientWidth]", picture)
            assert min(size) > 300 and picture.get_attribute("alt")
        assert bool(article.find_elements("css selector", "tbody tr")) == (not pictures)
    assert "A note below." in page.find_element("id", "table_5").text


def test_nothing_is_off_the_screen(page: Chrome) -> None:
    """Neither a column of a table nor a word: no need to scroll to the side."""
    width = js(page, "return document.documentElement.clientWidth")
    assert js(page, "return document.documentElement.scrollWidth") <= width
    off = js(
        page,
        "return [...document.querySelectorAll('td, th, img, p, li, h1, h2, h3')].filter(e => {"
        " const box = e.getBoundingClientRect();"
        " return box.width && (box.left < 0 || box.right > arguments[0]"
        "  || e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')"
        "}).map(e => e.textContent.slice(0, 60))",
        width,
    )
    assert off == []


def test_on_a_narrow_screen_every_cell_says_what_it_is(page: Chrome) -> None:
    labels = js(
        page,
        "const row = document.querySelector('#table_5 tbody tr'), cell = row.querySelector('td');"
        "return [getComputedStyle(row, '::before').content, getComputedStyle(cell, '::before').content]",
    )
    narrow = js(page, "return innerWidth") < 900
    assert labels == (['"30% · LTH"', '"Rewind Epoch k · k=1"'] if narrow else ["none", "none"])


def test_every_link_leads_somewhere(page: Chrome, results: Path) -> None:
    links = js(page, "return [...document.links].map(a => a.getAttribute('href'))")
    ids = set(js(page, "return [...document.querySelectorAll('[id]')].map(e => e.id)"))
    inside = {link[1:] for link in links if link.startswith("#")}
    files = {link for link in links if not link.startswith("#")}
    assert inside <= ids and len(inside) > 10
    assert "archive.html" in files and all((results / file).is_file() for file in files if
                                           not file.endswith(".log"))  # fmt: skip
    assert any(file.endswith("metrics.json") for file in files)


def test_every_number_leads_to_its_runs(page: Chrome) -> None:
    cells = page.find_elements("css selector", "#table_5 td")
    numbers = [cell for cell in cells if re.search(r"\d", cell.text)]
    found = []
    for cell in numbers:
        target = cell.find_element("tag name", "a").get_attribute("href").rpartition("#")[2]
        listed = page.find_elements("css selector", f"#{target} + ul > li")
        found.append([" ".join(one.text.split()[:2]) for one in listed])
        named = {a.text for a in listed[0].find_elements("tag name", "a")}
        assert named == {"metrics", "provenance", "log"}
    assert [runs[0].split()[0] for runs in found] == ["sparse"] * 3 + ["dense"]
    assert [len(runs) for runs in found] == [1, 1, 1, 2] and found[0] != found[1] != found[2]
    assert page.find_element("id", "runs-table_5-0").text == "30% · LTH · Rewind Epoch k · k=1: 1"


def test_verdicts_have_colours(page: Chrome) -> None:
    colours = js(
        page,
        "return [...document.querySelectorAll('#claims td')].filter(td =>"
        " ['supported', 'contradicted', 'undecided'].includes(td.innerText.trim()))"
        ".map(td => getComputedStyle(td).backgroundColor)",
    )
    assert colours and "rgba(0, 0, 0, 0)" not in colours


def test_it_can_be_printed(page: Chrome) -> None:
    """On A4, without the menu and without what would be cut off."""
    paper = page.execute_cdp_cmd("Page.printToPDF", {"paperWidth": 8.27, "paperHeight": 11.69})
    assert base64.b64decode(paper["data"]).startswith(b"%PDF")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not page.find_element("tag name", "nav").is_displayed()
        assert page.find_element("id", "table_5").is_displayed()
        assert js(page, "return document.documentElement.scrollWidth <= innerWidth")
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_picture_of_it_can_be_taken(results: Path, tmp_path: Path) -> None:
    picture = tmp_path / "images" / "report.png"
    script = Path(__file__).with_name("screenshot.py")
    subprocess.run(
        [sys.executable, script, results / "report.html", picture, "figure_3"], check=True
    )
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 20_000
    # the README shows one that was taken in the same way, and is small
    kept = REPOSITORY / "docs/images/report.png"
    assert kept.read_bytes()[:24] == picture.read_bytes()[:24]  # as wide and as high
    assert kept.stat().st_size < 300_000
    readme = (REPOSITORY / "README.md").read_text()
    assert "](docs/images/report.png)" in readme
    assert (
        "python tests/browser/screenshot.py results/demo/report.html docs/images/report.png"
        in readme
    )
