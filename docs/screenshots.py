"""Take the pictures of the report and of the queue's page for the documentation.

    python benchmarks/customs_flow.py FOLDER --out OUT
    python docs/screenshots.py OUT

It needs Chromium, and playwright from the dev extra.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

from skllm_calib import ReviewQueue

IMAGES = Path(__file__).parent / "images"


def main(folder: Path) -> None:
    IMAGES.mkdir(exist_ok=True)
    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program)
        report = (folder / "report.html").resolve().as_uri()
        shoot(browser, report, "report-light", "light", 1180)
        shoot(browser, f"{report}#decisions", "report-dark", "dark", 1560)
        with tempfile.TemporaryDirectory() as name:
            queue = waiting_queue(folder, Path(name, "queue.sqlite"))
            with queue.server() as server:
                for scheme in ("light", "dark"):
                    address = f"{server.url}?reviewer=Ann"
                    shoot(browser, address, f"queue-{scheme}", scheme, 800, width=760)
        browser.close()


def waiting_queue(folder: Path, path: Path) -> ReviewQueue:
    """Make the queue of the day anew, as it was before anybody said anything."""
    classes = json.loads((folder / "classes.json").read_text(encoding="utf-8"))
    queue = ReviewQueue(path, classes=classes, audit_share=0.2)
    queue.read_rows(folder / "rows.jsonl")
    return queue


def shoot(
    browser: Browser, address: str, name: str, scheme: Any, height: int, *, width: int = 1060
) -> None:
    tab = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": height})
    tab.goto(address)
    tab.screenshot(path=IMAGES / f"{name}.png")
    tab.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
