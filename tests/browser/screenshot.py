"""Take a picture of a report: ``screenshot.py REPORT PNG [CATEGORY [ENTRY]]``.

CATEGORY is a category of the report's menu (default: Figures), ENTRY the beginning of an entry's
name (default: the first entry).
"""

from __future__ import annotations

import sys
from pathlib import Path

from page import Report, browser


def main(report: Path, picture: Path, category: str = "Figures", entry: str = "") -> None:
    with browser(1280, 760) as driver:
        page = Report(driver, report)
        labels = page.open(category)
        page.show(next(place for place, label in enumerate(labels) if label.startswith(entry)))
        page.settle()
        picture.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(picture))


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
