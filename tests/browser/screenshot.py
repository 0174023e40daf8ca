"""Take a picture of a report: ``screenshot.py REPORT PNG [NAME]``.

NAME is a table or figure, which then stands at the top of the picture; else it is the page's head.
"""

from __future__ import annotations

import sys
from pathlib import Path

from page import browser


def main(report: Path, picture: Path, name: str = "") -> None:
    with browser(1280, 760) as driver:
        driver.get(report.resolve().as_uri() + (f"#{name}" if name else ""))
        picture.parent.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(picture))


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
