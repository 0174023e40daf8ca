"""A report in a real, headless Chromium that reaches no network."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions.action_builder import ActionBuilder

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--proxy-server=127.0.0.1:9", "--proxy-bypass-list=<-loopback>",
)  # fmt: skip
CONTENT = "document.querySelector('#app > div > div:last-child')"
_INSTALL = "install it: make browser (Debian: apt-get install chromium chromium-driver)"


def executable(*names: str) -> str:
    """Path of the first of these programs; RuntimeError with how to install them if none is there."""
    for name in names:
        found = shutil.which(name)
        if found:
            return found
    raise RuntimeError(f"{names[0]} is not installed; {_INSTALL}")


@contextmanager
def browser(width: int = 1440, height: int = 900) -> Iterator[webdriver.Chrome]:
    """A Chromium with a window of this many pixels, whose every connection is refused."""
    options = webdriver.ChromeOptions()
    options.binary_location = executable("chromium", "chromium-browser", "google-chrome")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=Service(executable("chromedriver")))
        try:
            # The headless window loses some height to a frame that it does not draw.
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            yield driver
        finally:
            driver.quit()


class Report:
    """Snakemake's report, open, used through its menu as a person uses it."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        driver.get(path.resolve().as_uri())
        self.wait("return !!document.querySelector('#app nav')")

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, script: str, *arguments: Any, seconds: float = 20) -> Any:
        """The first true value of a script; AssertionError if none comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = self.js(script, *arguments)
            if value:
                return value
            time.sleep(0.05)
        raise AssertionError(f"never true in {seconds} s: {script}")

    def click(self, text: str) -> None:
        """Click the entry of the menu with this text."""
        self.wait(
            "const a = [...document.querySelectorAll('#app nav a')]"
            ".find(a => a.textContent.trim() === arguments[0]); a?.click(); return !!a",
            text,
        )

    def home(self) -> None:
        self.js("document.querySelector('#app nav h1 + div a').click()")
        self.wait("return document.querySelector('#app nav').textContent.includes('Statistics')")

    def categories(self) -> list[str]:
        """Names of the categories in the menu, in its order."""
        self.home()
        return self.js(
            "return [...document.querySelectorAll('#app nav a')].map(a => a.textContent.trim())"
            ".filter(name => name in categories)"
        )

    def open(self, category: str) -> list[str]:
        """Go to a category; the labels of its entries, as the menu shows them."""
        self.home()
        self.click(category)
        return self.wait(
            "const rows = [...document.querySelectorAll('#app nav tbody tr')];"
            "return rows.length ? rows.map(row => row.cells[0].textContent.trim()) : null"
        )

    def show(self, entry: int) -> str:
        """Look at an entry of the open category; ``"img"`` or ``"iframe"``, what it is shown in."""
        self.js(
            "document.querySelectorAll('#app nav tbody tr')[arguments[0]]"
            ".querySelectorAll('a')[0].click()",
            entry,
        )
        return self.wait(
            f"const shown = {CONTENT}.querySelector('img, iframe');"
            "return shown?.getAttribute('src') === app.state.contentPath && shown.complete !== false"
            " && shown.tagName.toLowerCase()"
        )

    def table(self) -> list[list[str]]:
        """The rows of the table that is shown, as text, its headings too."""
        frame = self.driver.find_element("css selector", "#app iframe")
        self.driver.switch_to.frame(frame)
        try:
            return self.wait(
                "const rows = [...document.querySelectorAll('table tr')];"
                "return document.readyState === 'complete' && rows.map("
                "row => [...row.cells].map(cell => cell.innerText.trim()))"
            )
        finally:
            self.driver.switch_to.default_content()

    def click_figure(self, x: float, y: float) -> None:
        """Click at a share x, y of the width and height of the figure that is shown."""
        place = self.js(
            f"const img = {CONTENT}.querySelector('img'), box = img.getBoundingClientRect();"
            "const ratio = img.naturalWidth / img.naturalHeight;"
            "const width = Math.min(box.width, box.height * ratio), height = width / ratio;"
            "return [box.left + box.width / 2 + (arguments[0] - 0.5) * width,"
            " box.top + box.height / 2 + (arguments[1] - 0.5) * height]",
            x,
            y,
        )
        actions = ActionBuilder(self.driver)
        actions.pointer_action.move_to_location(*map(round, place)).click()
        actions.perform()

    def picture(self) -> dict[str, Any]:
        """Of the figure that is shown: its own size, that on the page, how far its middle lies from
        that of the page beside the menu (pixels), its name and its caption."""
        self.settle()
        return self.wait(
            f"const page = {CONTENT}, img = page.querySelector('img');"
            "if (img?.alt !== Object.values(results[app.state.resultPath].labels)[0]) return null;"
            "const box = img.getBoundingClientRect(), outside = page.getBoundingClientRect();"
            "const ratio = img.naturalWidth / img.naturalHeight;"
            "const width = Math.min(box.width, box.height * ratio);"
            "return {natural: [img.naturalWidth, img.naturalHeight], alt: img.alt,"
            " picture: [width, width / ratio], caption: img.parentElement.dataset.caption,"
            " middle: [box.left + box.width / 2 - outside.left - outside.width / 2,"
            " box.top + box.height / 2 - outside.top - outside.height / 2]}"
        )

    def describe(self, entry: int) -> str:
        """Open the information on an entry of the open category; its caption."""
        self.js(
            "document.querySelectorAll('#app nav tbody tr')[arguments[0]]"
            ".querySelectorAll('a')[1].click()",
            entry,
        )
        return self.wait("return document.querySelector('#app nav .prose')?.textContent.trim()")

    def settle(self) -> None:
        """Wait until the menu has its width: it slides for a moment."""
        self.wait(
            "return document.getAnimations().every(animation => animation.playState !== 'running')"
        )

    def painted(self, selector: str) -> int:
        """How many different colours a canvas shows; waits until it shows more than one."""
        return self.wait(
            "const canvas = document.querySelector(arguments[0]); if (!canvas?.width) return 0;"
            "const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);"
            "const colours = new Set(new Uint32Array(data.buffer));"
            "return colours.size > 1 ? colours.size : 0",
            selector,
        )

    def errors(self) -> list[str]:
        return errors(self.driver)

    def requests(self) -> list[str]:
        return requests(self.driver)


def errors(driver: webdriver.Chrome) -> list[str]:
    """Errors in the console so far."""
    return [e["message"] for e in driver.get_log("browser") if e["level"] == "SEVERE"]


def requests(driver: webdriver.Chrome) -> list[str]:
    """Addresses on any network that were asked for so far."""
    events = [json.loads(entry["message"]) for entry in driver.get_log("performance")]
    sent = [event["message"] for event in events]
    urls = [
        event["params"]["request"]["url"]
        for event in sent
        if event["method"] == "Network.requestWillBeSent"
    ]
    return [url for url in urls if url.startswith(("http:", "https:", "ws:", "wss:", "ftp:"))]
