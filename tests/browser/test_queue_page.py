from __future__ import annotations

import pytest

from skllm_calib.operations.queue import ReviewQueue

expect = pytest.importorskip("playwright.sync_api").expect

pytestmark = pytest.mark.browser

WORD = "Donaudampfschifffahrtsgesellschaftskapitänsmütze" * 4
HTML = "<script>document.title = 'ran'</script><img src=x onerror=\"document.title = 'ran'\"> & <b>"
HEBREW = "שלום, עולם (1)"


def row(name, proba, action="review", **more):
    return {"id": name, "text": f"The text of {name}.", "proba": proba, "action": action, **more}


@pytest.fixture
def serve(tmp_path):
    """Make a queue of such rows, serve it, and return it with its address."""
    servers = []

    def make(classes, rows):
        queue = ReviewQueue(tmp_path / f"{len(servers)}.sqlite", classes=classes, audit_share=1.0)
        queue.add(rows)
        servers.append(queue.server().__enter__())
        return queue, servers[-1].url

    yield make
    for server in servers:
        server.__exit__(None, None, None)


@pytest.fixture
def few(serve):
    return serve(
        ["ham", "spam"],
        [
            row("a", [0.55, 0.45], reason="0.55 is below 0.9", evidence={"said": ["ham", HTML]}),
            row("b", [0.3, 0.7]),
            row("c", [0.99, 0.01], "accept"),
        ],
    )


def start(tab, url, reviewer="Ann"):
    tab.page.goto(url)
    tab.page.get_by_label("Your name").fill(reviewer)
    tab.page.get_by_role("button", name="Start").click()
    expect(tab.page.locator("header")).to_contain_text(f"Reviewer: {reviewer}")


def sound(tab, widths=(360,)):
    assert tab.accessibility_problems() == []
    assert tab.overflowing(widths) == []
    return True


def heading(tab):
    return expect(tab.page.get_by_role("heading", level=1))


def status(tab):
    return expect(tab.page.get_by_role("status"))


def said(queue):
    return [(label["id"], label["label"]) for label in queue.labels()]


def test_the_name_is_asked(tab, few):
    tab.page.goto(few[1])
    expect(tab.page.get_by_label("Your name")).to_be_focused()
    heading(tab).to_have_text("Who is reviewing?")
    assert sound(tab)
    assert tab.undecided() == []
    tab.page.keyboard.type("Ann Other")
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("header")).to_have_text("Reviewer: Ann Other 3 waiting 0 done")


def test_keys(tab, few):
    queue, url = few
    start(tab, url)
    assert sound(tab)
    tab.page.keyboard.press("1")
    status(tab).to_have_text("Saved a as ham.")
    heading(tab).to_have_text("Row c audit of an accepted row")
    assert sound(tab)
    tab.page.keyboard.press("s")
    heading(tab).to_have_text("Row b")
    tab.page.keyboard.press("2")
    status(tab).to_have_text("Saved b as spam.")
    assert said(queue) == [("a", "ham"), ("b", "spam")]
    tab.page.keyboard.press("u")
    status(tab).to_have_text("Saved a as ham.")
    assert said(queue) == [("a", "ham")]
    tab.page.keyboard.press("Control+1")
    tab.page.keyboard.press("7")  # there is no such class
    tab.page.keyboard.press("2")
    status(tab).to_contain_text("as spam.")
    assert [label for _, label in said(queue)] == ["ham", "spam"]


def test_mouse_until_nothing_waits(tab, few):
    queue, url = few
    start(tab, url)
    tab.page.get_by_text("Evidence").click()
    expect(tab.page.locator("pre")).to_be_visible()
    assert sound(tab)
    for name, label in (("a", "spam"), ("c", "ham"), ("b", "spam")):
        heading(tab).to_contain_text(f"Row {name}")
        tab.page.get_by_role("button", name=label).click()
        status(tab).to_have_text(f"Saved {name} as {label}.")
    heading(tab).to_have_text("Nothing is waiting for review.")
    assert said(queue) == [("a", "spam"), ("c", "ham"), ("b", "spam")]
    assert sound(tab)
    assert tab.undecided() == []
    tab.page.get_by_role("button", name="Undo the last label").click()
    heading(tab).to_have_text("Row b")


def test_open_at_another_reviewer(new_tab, serve):
    _, url = serve(["ham", "spam"], [row("a", None)])
    first, second = new_tab(), new_tab("dark")
    start(first, url, "Ann")
    start(second, url, "Bob")
    heading(second).to_have_text("All waiting rows are open at other reviewers.")
    assert sound(second)
    first.page.keyboard.press("1")
    status(first).to_have_text("Saved a as ham.")
    second.page.get_by_role("link", name="Look again").click()
    heading(second).to_have_text("Nothing is waiting for review.")


def test_many_classes(tab, serve):
    classes = sorted([f"class {i:02}" for i in range(30)] + ["two  spaces ", "two\nlines", WORD])
    queue, url = serve(classes, [row(name, [1 / 33] * 33) for name in "abcd"])
    start(tab, url)
    assert sound(tab)
    select = tab.page.get_by_label("Another label")
    tab.page.get_by_role("button", name="Save").click()  # nothing is chosen
    expect(select).to_be_focused()
    for name, label in zip("abcd", ("class 29", *classes[-2:], WORD), strict=True):
        heading(tab).to_have_text(f"Row {name}")
        select.focus()
        tab.page.keyboard.press("1")  # in a list a digit is no key of ours
        select.select_option(index=1 + classes.index(label))
        tab.page.get_by_role("button", name="Save").click()
        status(tab).to_contain_text(f"Saved {name} as")
    assert [label for _, label in said(queue)] == ["class 29", *classes[-2:], WORD]


def test_everything_is_shown_as_text(tab, serve):
    classes = sorted([HTML, HEBREW, WORD, "two\nlines"])
    rows = [
        row(f"{name}{HTML}{WORD}{HEBREW}", [0.4, 0.3, 0.2, 0.1], reason=HTML + WORD,
            evidence={HTML: [HEBREW, WORD]}) | {"text": text}
        for name, text in (("a", f"{HEBREW}\n{HTML} {WORD}"), ("b", HTML))
    ]  # fmt: skip
    queue, url = serve(classes, rows)
    start(tab, url, (HTML[:40] + WORD)[:100])
    tab.page.get_by_text("Evidence").click()
    assert sound(tab, (360, 768, 1280))
    text = tab.page.locator(".text")
    assert text.evaluate("e => e.textContent") == f"{HEBREW}\n{HTML} {WORD}"
    assert text.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert tab.page.locator("img, b, article script").count() == 0
    tab.page.get_by_role("button", name="two lines").click()
    status(tab).to_contain_text(f"Saved a{HTML}{WORD}{HEBREW} as two lines")
    assert sound(tab)
    assert text.evaluate("e => getComputedStyle(e).direction") == "ltr"
    tab.page.get_by_role("button", name=HTML).click()
    heading(tab).to_have_text("Nothing is waiting for review.")
    assert sound(tab)
    assert [label for _, label in said(queue)] == ["two\nlines", HTML]
    assert tab.page.title() == "Nothing to review · Review queue"


def test_contrast_over_the_bars(tab, few):
    """A text lies on the card, on the bar, or on both; axe-core cannot tell because of the SVG."""
    start(tab, few[1])
    assert "color-contrast" in "".join(tab.undecided())
    tab.page.evaluate(
        """() => document.querySelectorAll(".choice").forEach((e) => {
          e.style.background = getComputedStyle(e.querySelector("rect")).fill;
          e.querySelector("svg").remove();
        })"""
    )
    assert tab.accessibility_problems() == tab.undecided() == []
    tab.page.evaluate(
        "() => document.querySelectorAll('.choice').forEach((e) => e.removeAttribute('style'))"
    )
    assert tab.accessibility_problems() == tab.undecided() == []


def test_keys_turned_off_stay_off(new_tab, few):
    queue, url = few
    tab = new_tab()
    start(tab, url)
    keys = tab.page.get_by_label("Use the keys")
    expect(keys).to_be_checked()
    keys.uncheck()
    for name in "ac":
        tab.page.keyboard.press("1")
        tab.page.get_by_role("button", name="spam").click()
        status(tab).to_have_text(f"Saved {name} as spam.")
        tab.page.reload()
        expect(keys).not_to_be_checked()
    keys.check()
    tab.page.keyboard.press("1")
    status(tab).to_have_text("Saved b as ham.")
    assert said(queue) == [("a", "spam"), ("c", "spam"), ("b", "ham")]


def test_one_row_at_a_time(new_tab, few):
    """Neither a key that is held down nor a double click labels the next row too."""
    queue, url = few
    tab = new_tab()
    start(tab, url)
    tab.page.keyboard.down("1")
    status(tab).to_have_text("Saved a as ham.")
    tab.page.keyboard.down("1")  # the keyboard repeats it
    tab.page.keyboard.up("1")
    spam = tab.page.get_by_role("button", name="spam").bounding_box()
    x, y = spam["x"] + spam["width"] / 2, spam["y"] + spam["height"] / 2
    tab.page.mouse.click(x, y)
    status(tab).to_have_text("Saved c as spam.")
    tab.page.mouse.down(click_count=2)  # so a browser counts, on whatever page the second one is
    tab.page.mouse.up(click_count=2)
    tab.page.keyboard.press("u")
    status(tab).to_have_text("Saved a as ham.")
    assert said(queue) == [("a", "ham")]


def test_without_javascript(new_tab, few):
    queue, url = few
    tab = new_tab(javascript=False)
    start(tab, url)
    expect(tab.page.get_by_label("Use the keys")).to_be_hidden()
    tab.page.get_by_role("button", name="ham").click()
    status(tab).to_have_text("Saved a as ham.")
    tab.page.get_by_role("button", name="Skip").click()
    heading(tab).to_have_text("Row b")
    tab.page.get_by_role("button", name="Undo the last label").click()
    status(tab).to_have_text("")
    tab.page.get_by_role("button", name="spam").click()
    status(tab).to_contain_text("as spam.")
    assert len(said(queue)) == 1


def test_refusals(new_tab, scheme, few):
    tab = new_tab(scheme, strict=False)  # Chromium says in the console what was refused
    assert tab.page.goto(f"{few[1]}x").status == 404
    expect(tab.page.get_by_role("alert")).to_contain_text("use the address that was printed")
    assert sound(tab)
    start(tab, few[1])
    tab.page.get_by_role("button", name="spam").evaluate("e => e.value = '<eggs>'")
    tab.page.keyboard.press("2")
    expect(tab.page.get_by_role("alert")).to_contain_text("label '<eggs>' is not one of")
    assert all("Failed to load resource" in message for message in tab.complaints())
