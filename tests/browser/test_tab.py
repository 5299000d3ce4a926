"""What the other tests rely on: that faults of a page are seen."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.browser

BAD = """<!doctype html><html><head><title>t</title>
<meta http-equiv="Content-Security-Policy" content="script-src 'nonce-x'"></head><body>
<p style="color: #999; background: #fff">pale</p><img src="http://elsewhere.invalid/x.png">
<p id="long" style="white-space: nowrap">{words}</p>
<div class="box" style="width: 9rem; overflow: hidden"><nobr>{words}</nobr></div>
<script>document.title = "ran"</script><script nonce="x">oops()</script></body></html>"""


def test_faults_are_found(new_tab, tmp_path):
    tab = new_tab(strict=False)
    path = tmp_path / "page.html"
    path.write_text(BAD.format(words="word " * 40), encoding="utf-8")
    tab.page.goto(path.as_uri())
    assert tab.page.title() == "t"
    said = "\n".join(tab.complaints())
    assert "Content Security Policy" in said
    assert "uncaught: " in said
    assert "oops is not defined" in said
    assert "request: http://elsewhere.invalid/x.png" in said
    problems = tab.accessibility_problems()
    assert {re.match(r"[\w-]+", problem).group() for problem in problems} == {
        "color-contrast",
        "html-has-lang",
        "image-alt",
    }
    found = "\n".join(tab.overflowing((360, 3000)))
    assert "360 px: p#long sticks out" in found
    assert "360 px: div.box is cut off" in found
    assert "3000 px: the page" not in found
    assert tab.page.viewport_size == {"width": 1280, "height": 800}


def test_a_page_without_faults(tab, scheme, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><head><title>t</title><style>:root { color-scheme: light '
        "dark } p { break-after: page }</style></head><body><main><h1>t</h1><p>a<p>b</main></body>"
        "</html>",
        encoding="utf-8",
    )
    tab.page.goto(path.as_uri())
    assert tab.requests == [path.as_uri()]
    assert tab.complaints() == tab.accessibility_problems() == tab.overflowing() == []
    dark = tab.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert dark == (scheme == "dark")
    pdf = tab.pdf(tmp_path / "page.pdf")
    assert pdf == (tmp_path / "page.pdf").read_bytes()
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 2


def test_no_name_is_looked_up(new_tab):
    tab = new_tab(strict=False)
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        tab.page.goto("http://localhost.localdomain/")
