"""Pages in a real browser, for the tests of what people see.

``browser``
    Chromium, started once for each file of tests. They are skipped without playwright or a browser;
    with ``SKLLM_CALIB_NEED_BROWSER=1`` (``.ci/run``) a missing browser is a failure.
    ``SKLLM_CALIB_BROWSER`` names the program where it is not found.
``scheme``
    "light", then "dark": a test that asks for it runs twice.
``tab``
    An open `Tab` in that colour scheme.
``new_tab(scheme="light", width=1280, height=800, javascript=True, strict=True)``
    Makes as many tabs as a test needs, each with its own storage.

A `Tab` has the ``page`` of playwright and keeps ``messages`` (console, errors of scripts,
violations of the content security policy) and ``requests`` (addresses). When the test ends it must
have nothing in ``complaints()``, unless it was made with ``strict=False``. What it can be asked:

``accessibility_problems()``
    What axe-core finds against WCAG 2.0 and 2.1, A and AA, contrast included.
``undecided()``
    What axe-core leaves to people, such as the contrast of a text over an image or an SVG.
``overflowing(widths=(360, 768, 1280))``
    What sticks out of the window to the right, or is cut off, at these widths.
``pdf(path=None)``
    The page as it is printed, as bytes.

Files are opened with ``tab.page.goto(path.as_uri())``. Names of hosts are not looked up: only
127.0.0.1 and files can be reached.
"""

from __future__ import annotations

import importlib.resources
import os
import shutil
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
PATIENCE = 15_000  # milliseconds; the machine may be busy with other things

RUN_AXE = """
async ([rules, kind]) => {
  const found = await axe.run(document, {
    runOnly: { type: "tag", values: rules }, resultTypes: [kind],
  });
  return found[kind].flatMap((rule) => rule.nodes.map(
    (node) => `${rule.id}: ${node.target.join(" ")}: ${node.failureSummary}`));
}
"""

# Of what is too wide only the innermost is named. One pixel is what is hidden for the eyes alone.
FIND_OVERFLOW = """
() => {
  const root = document.documentElement, width = root.clientWidth;
  const all = [...document.body.querySelectorAll("*")];
  const name = (e) => e.tagName.toLowerCase() + (e.id && `#${e.id}`)
    + [...e.classList].map((c) => `.${c}`).join("");
  const shows = (e) => getComputedStyle(e).overflowX === "visible";
  const cut = all.filter((e) => e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 1
    && ["hidden", "clip"].includes(getComputedStyle(e).overflowX));
  const found = cut.map((e) => `${name(e)} is cut off`);
  if (root.scrollWidth <= width) return found;
  const free = (e) => !e || e === document.body || (shows(e) && free(e.parentElement));
  const end = (e) => {
    const { left, right } = e.getBoundingClientRect();
    return Math.max(right, shows(e) ? left + e.scrollWidth : right);
  };
  const wide = all.filter((e) => end(e) > width + .5 && free(e.parentElement));
  const inner = wide.filter((e) => !wide.some((o) => o !== e && e.contains(o)));
  return [...found, `the page is ${root.scrollWidth} px wide`,
    ...inner.slice(0, 5).map((e) => `${name(e)} sticks out`)];
}
"""


class Tab:
    """One page and all that it said and asked for."""

    def __init__(self, context):
        self.messages, self.requests = [], []
        context.set_default_timeout(PATIENCE)
        context.on("console", lambda said: self.messages.append(f"{said.type}: {said.text}"))
        context.on("weberror", lambda e: self.messages.append(f"uncaught: {e.error}"))
        context.on("request", lambda request: self.requests.append(request.url))
        self.page = context.new_page()

    def complaints(self):
        """Return all messages, and the requests that leave this machine."""
        return self.messages + [f"request: {url}" for url in self.requests if _leaves(url)]

    def accessibility_problems(self):
        """Return what axe-core finds, one readable text each."""
        return self._axe("violations")

    def undecided(self):
        """Return what axe-core cannot decide, in the same form."""
        return self._axe("incomplete")

    def overflowing(self, widths=(360, 768, 1280)):
        """Return what does not fit at these widths of the window, in pixels."""
        before = self.page.viewport_size
        found = []
        for width in widths:
            self.page.set_viewport_size({"width": width, "height": before["height"]})
            found += [f"{width} px: {what}" for what in self.page.evaluate(FIND_OVERFLOW)]
        self.page.set_viewport_size(before)
        return found

    def pdf(self, path=None):
        """Return the page as it is printed, and keep it at the path."""
        return self.page.pdf(path=path, format="A4", print_background=True)

    def _axe(self, kind):
        script = importlib.resources.files("axe_playwright_python") / "axe.min.js"
        # Evaluated as a debugger does, which the policy of a page does not hinder.
        self.page.evaluate(script.read_text(encoding="utf-8"))
        return self.page.evaluate(RUN_AXE, [RULES, kind])


def _leaves(url):
    parts = urlsplit(url)
    return parts.scheme not in ("about", "blob", "data", "file") and parts.hostname != "127.0.0.1"


def _program():
    named = os.environ.get("SKLLM_CALIB_BROWSER")
    if named:
        if shutil.which(named) is None:
            pytest.fail(f"SKLLM_CALIB_BROWSER={named} is not a program", pytrace=False)
        return named
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        missing = (
            "needs Chromium or Chrome: install one (Debian, Ubuntu: apt-get install chromium), or "
            "say where it is in SKLLM_CALIB_BROWSER"
        )
        if os.environ.get("SKLLM_CALIB_NEED_BROWSER") == "1":
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return found


# Not for the whole session: while playwright runs, no other test can start an event loop.
@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    pytest.importorskip("axe_playwright_python")
    program = _program()
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=FLAGS, timeout=60_000)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture
def new_tab(browser):
    tabs = []

    def make(scheme="light", *, width=1280, height=800, javascript=True, strict=True):
        context = browser.new_context(
            color_scheme=scheme,
            viewport={"width": width, "height": height},
            java_script_enabled=javascript,
            locale="en-GB",
        )
        tab = Tab(context)
        tabs.append((context, tab, strict))
        return tab

    yield make
    for context, _, _ in tabs:
        context.close()
    assert [tab.complaints() for _, tab, strict in tabs if strict and tab.complaints()] == []


@pytest.fixture
def tab(new_tab, scheme):
    return new_tab(scheme)
