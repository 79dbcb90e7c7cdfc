"""Pictures of the explorer: `python docs/images/explorer.py`.

One for the README, and one from further down the page for docs/explore.md. This needs the test
group (playwright) and Chromium.
"""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from dncx import explore

PICTURE = Path(__file__).with_suffix(".png")
BELOW = PICTURE.with_stem("explorer_over_time")
TIMELINE = "[...document.querySelectorAll('h3')].find((h) => h.textContent === 'Memory over time')"


def main() -> None:
    """Opens the page of a model that ships with dncx, at an answer on the Underground."""
    graph = {"graph": "underground", "path_length": 5, "memory_size": 128}
    trace = explore.trace_run("traversal", seed=1, **graph)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        page = explore.page(trace, Path(folder) / "memory.html")
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_page(viewport={"width": 1280, "height": 1000})
        tab.goto(page.as_uri())
        tab.wait_for_selector("article")
        read = trace[0].num_steps - 4
        slot = tab.evaluate("(step) => dncx.recording.readsAt.get(step)?.[0].slot ?? 0", read)
        tab.evaluate("([step, slot]) => dncx.set({step, slot})", [read, slot])
        tab.wait_for_timeout(500)
        tab.screenshot(path=PICTURE)
        tab.set_viewport_size({"width": 1280, "height": 1600})
        tab.evaluate(f"scrollTo(0, {TIMELINE}.getBoundingClientRect().top + scrollY - 60)")
        tab.wait_for_timeout(500)
        tab.screenshot(path=BELOW)
        browser.close()


if __name__ == "__main__":
    main()
