from __future__ import annotations

import re
import socket
import urllib.error
import urllib.request
from html.parser import HTMLParser
from urllib.parse import urlencode, urlsplit

import pytest

from skllm_calib.operations.queue import ReviewQueue

NASTY = "<script>alert(1)</script> \"'&<img src=x onerror=alert(1)>"


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


OPENER = urllib.request.build_opener(NoRedirect, urllib.request.ProxyHandler({}))


def ask(url, form=None, **headers):
    """Return status, headers and text of an answer, whatever its status."""
    data = None if form is None else urlencode(form).encode()
    request = urllib.request.Request(
        url, data, {k.replace("_", "-"): v for k, v in headers.items()}
    )
    try:
        with OPENER.open(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.headers, answer.read().decode()


class Page(HTMLParser):
    """Tags with their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def queue(tmp_path):
    queue = ReviewQueue(tmp_path / "q.sqlite", classes=["<b>ham</b>", "spam"], audit_share=1.0)
    queue.add(
        [
            {
                "id": f"{name}&<i>",
                "text": NASTY,
                "proba": [1 - p, p],
                "action": action,
                "evidence": {"said": NASTY},
                "reason": NASTY,
            }
            for name, p, action in [
                ("a", 0.6, "review"),
                ("b", 0.7, "review"),
                ("c", 0.99, "accept"),
            ]
        ]
    )
    return queue


@pytest.fixture
def server(queue):
    with queue.server() as server:
        yield server


def get(server, reviewer):
    status, _, text = ask(f"{server.url}?{urlencode({'reviewer': reviewer})}")
    assert status == 200
    return Page(text)


def shown(page):
    return next((tag["value"] for tag in page.all("input") if tag.get("name") == "id"), None)


def act(server, reviewer, act, **form):
    return ask(f"{server.url}act", {"reviewer": reviewer, "act": act, **form})


def test_the_address(server):
    parts = urlsplit(server.url)
    assert parts.hostname == "127.0.0.1"
    assert re.fullmatch(r"/[\w-]{32}/", parts.path)
    page = Page(ask(server.url)[2])
    assert [tag["name"] for tag in page.all("input")] == ["reviewer"]
    assert page.all("label") == [{"for": "reviewer"}]


def test_only_this_machine_can_connect(server):
    assert server._http.server_address[0] == "127.0.0.1"
    with socket.socket() as other:  # another address of this machine, were it served there
        other.settimeout(5)
        assert other.connect_ex(("127.0.0.2", server._http.server_port)) != 0


def test_everything_is_escaped(server):
    page = get(server, NASTY)
    assert NASTY in page.text
    assert page.text.count(NASTY) == 3  # reviewer, text, reason; in the evidence it is JSON
    assert not page.all("img")
    assert not page.all("b")
    assert not page.all("i")
    (script,) = page.all("script")
    assert list(script) == ["nonce"]
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert shown(page) == "a&<i>"
    labels = [tag["value"] for tag in page.all("button") if tag["name"] == "label"]
    assert labels == ["<b>ham</b>", "spam"]


def test_nothing_comes_from_elsewhere(server):
    _, headers, text = ask(f"{server.url}?reviewer=A")
    assert not re.search(r"https?://|url\(|@import|innerHTML|eval\(", text)
    policy = headers["Content-Security-Policy"]
    nonces = set(re.findall(r"nonce-([\w-]+)", policy))
    assert nonces == set(re.findall(r'nonce="([\w-]+)"', text))
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert ask(f"{server.url}?reviewer=A")[1]["Content-Security-Policy"] != policy


def test_labels_skip_and_undo(server, queue):
    first = shown(get(server, "A"))
    status, headers, _ = act(server, "A", "label", id=first, label="<b>ham</b>")
    assert (status, headers["Location"]) == (303, urlsplit(server.url).path + "?reviewer=A")
    page = get(server, "A")
    assert "Saved a&<i> as <b>ham</b>." in page.text
    assert shown(page) == "c&<i>"
    assert "audit of an accepted row" in page.text
    act(server, "A", "skip", id="c&<i>")
    assert shown(get(server, "A")) == "b&<i>"
    act(server, "A", "skip", id="b&<i>")
    assert shown(get(server, "A")) == "c&<i>"  # nothing else is left
    act(server, "A", "undo")
    assert queue.labels() == []
    assert shown(get(server, "A")) == "a&<i>"
    for name in "abc":
        act(server, "A", "label", id=f"{name}&<i>", label="spam")
    assert "Nothing is waiting for review." in get(server, "A").text
    assert queue.statistics().n_done == 3


def test_two_reviewers_at_once(server, queue):
    first, second = shown(get(server, "A")), shown(get(server, "B"))
    assert first != second
    assert shown(get(server, "A")) == first  # the page may be loaded again
    get(server, "C")
    assert "open at other reviewers" in get(server, "D").text
    for reviewer, label in (("A", "spam"), ("B", "<b>ham</b>")):
        act(server, reviewer, "label", id=first, label=label)
    (dispute,) = queue.disputed()
    assert dispute["labels"] == {"A": "spam", "B": "<b>ham</b>"}
    assert "1 disputed" in get(server, "A").text


def refused(server, queue, status, url=None, **headers):
    form = {"reviewer": "A", "act": "label", "id": "a&<i>", "label": "spam"}
    found, answer, text = ask(url or f"{server.url}act", form, **headers)
    assert found == status
    assert "Access-Control-Allow-Origin" not in answer
    assert queue.labels() == []
    assert server._token not in text
    return Page(text).text


def test_the_secret_is_needed(server, queue):
    root = f"http://127.0.0.1:{server._http.server_port}"
    for path in ("/act", "/", "//act", f"/{'x' * 32}/act", f"/{server._token}x/act"):
        refused(server, queue, 404, root + path)
    status, _, text = ask(root + "/?reviewer=A")
    assert status == 404
    assert "use the address that was printed" in text
    assert server._token not in text


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
def test_another_host_is_refused(server, queue, host):
    assert "only served as 127.0.0.1" in refused(server, queue, 403, Host=host)
    assert ask(f"{server.url}?reviewer=A", Host=host)[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
def test_another_site_is_refused(server, queue, headers):
    assert "another site" in refused(server, queue, 403, **headers)


def test_what_a_browser_sends_is_taken(server, queue):
    port = server._http.server_port
    for name, host in (
        ("a", f"127.0.0.1:{port}"),
        ("b", f"localhost:{port}"),
        ("c", "localhost:9"),
    ):
        form = {"reviewer": "A", "act": "label", "id": f"{name}&<i>", "label": "spam"}
        status, _, _ = ask(
            f"{server.url}act",
            form,
            Host=host,
            Origin=f"http://{host}",
            Sec_Fetch_Site="same-origin",
        )
        assert status == 303
    assert len(queue.labels()) == 3


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"label": "<eggs>"}, "label '<eggs>' is not one of the classes"),
        ({"id": "z"}, "id 'z' is not in the queue"),
        ({"act": "drop"}, "there is no action 'drop'"),
        ({"reviewer": " "}, "reviewer must not be empty"),
    ],
)
def test_bad_forms(server, queue, form, message):
    good = {"reviewer": "A", "act": "label", "id": "a&<i>", "label": "spam"}
    status, _, text = ask(f"{server.url}act", good | form)
    assert status == 400
    assert message in Page(text).text
    assert not Page(text).all("eggs")
    assert queue.labels() == []


@pytest.mark.parametrize("length", ["99999999", "-1", "x", ""])
def test_a_form_of_a_length_that_cannot_be(server, length):
    address = ("127.0.0.1", server._http.server_port)
    with socket.create_connection(address, timeout=20) as connection:
        connection.sendall(
            f"POST /{server._token}/act HTTP/1.0\r\nHost: localhost\r\n"
            f"Content-Length: {length}\r\n\r\n".encode()
        )
        assert b" 400 " in connection.recv(1000)


def test_accessible(server):
    page = get(server, "A")
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert {"role": "status"} in page.all("p")
    keys = [tag["aria-keyshortcuts"] for tag in page.all("button")]
    assert keys == ["1", "2", "s"]
    assert all(tag["aria-hidden"] == "true" for tag in page.all("svg") + page.all("kbd"))


def test_many_classes(tmp_path):
    classes = [f"c{i:02}" for i in range(30)]
    queue = ReviewQueue(tmp_path / "q", classes=classes)
    queue.add([{"id": 1, "text": "t", "proba": {c: (i + 1) / 465 for i, c in enumerate(classes)},
                "action": "review"}])  # fmt: skip
    with queue.server() as server:
        page = get(server, "A")
        offered = [tag["value"] for tag in page.all("button") if tag.get("name") == "label"]
        assert offered == classes[:-10:-1]
        assert len(page.all("option")) == 31
        act(server, "A", "label", id="1", label="c03")
    assert queue.labels()[0]["label"] == "c03"


def test_a_row_without_probabilities(tmp_path):
    queue = ReviewQueue(tmp_path / "q", classes=["a", "b"])
    queue.add([{"id": 1, "text": "t", "proba": None, "action": "review"}])
    with queue.server() as server:
        page = get(server, "A")
    assert not page.all("svg")
    assert len(page.all("button")) == 3
