"""The gate's report in a real browser: it opens, fits, needs nothing else, and hostile text stays text."""

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import browser
import gate_reports
import pytest

from flywheel.text.visible import one_line
from flywheel.workflow.turns.report.page import render

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find_browser() is None, reason="no Chromium is installed (apt-get install chromium)"),
]

CONTROL = """<!doctype html><title>calm</title><p>"><img src="/stolen" onerror="document.title='owned'"></p>"""
FRAMES = """<!doctype html><title>loading</title><body><script>
const sizes = [360, 768, 1280];
let left = sizes.length, found = [];
for (const width of sizes) {
  const frame = document.createElement("iframe");
  frame.width = width; frame.height = 900; frame.src = "/%s";
  frame.onload = () => {
    found.push(width + ":" + frame.contentDocument.documentElement.scrollWidth);
    if (--left === 0) document.title = found.sort().join(" ");
  };
  document.body.append(frame);
}
</script>"""


class Site:
    """Serves pages on loopback and notes every request."""

    def __init__(self, pages):
        requests = self.requests = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                page = pages.get(self.path)
                self.send_response(200 if page else 404)
                self.send_header("content-type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture(scope="module")
def site():
    names = ("promoted", "rejected", "shared", "hostile")
    pages = {f"/{name}": render(getattr(gate_reports, name)()) for name in names}
    frames = {f"/frames-{name}": FRAMES % name for name in names}
    made = Site({**pages, **frames, "/control": CONTROL})
    yield made
    made.server.shutdown()


def test_this_test_would_notice_a_script_and_a_request(site, tmp_path):
    seen = browser.Seen(browser.run(f"{site.url}/control", tmp_path))
    assert seen.title == "owned"
    assert "/stolen" in site.requests


def test_hostile_text_stays_text(site, tmp_path):
    site.requests.clear()
    seen = browser.Seen(browser.run(f"{site.url}/hostile", tmp_path))
    assert [path for path in site.requests if path != "/favicon.ico"] == ["/hostile"]
    assert seen.title.startswith("Promoted: <script>document.title='owned'")
    assert seen.harmless()
    for text in gate_reports.HOSTILE:
        assert one_line(text, limit=60).split("\u2026")[0] in seen.text


def test_a_verdict_is_read_in_the_page(site, tmp_path):
    text = browser.Seen(browser.run(f"{site.url}/rejected", tmp_path)).text
    assert "Not promoted triage-v0003 stays out: on “old-intents” it may have lost up to 4.3 points" in text
    assert text.index("Not promoted") < text.index("Better or worse?") < text.index("No worse on old-intents")
    assert text.index("Newly broken") < text.index("Fixed 144")


@pytest.mark.parametrize("name", ["shared", "hostile"])
def test_nothing_sticks_out_on_a_phone_or_a_desk(site, tmp_path, name):
    widths = browser.Seen(browser.run(f"{site.url}/frames-{name}", tmp_path)).title
    assert widths == "1280:1280 360:360 768:768"


def test_a_screenshot_is_drawn(site, tmp_path):
    path = browser.screenshot(f"{site.url}/promoted", tmp_path / "p", tmp_path / "s.png", width=1280, height=1600)
    assert struct.unpack(">II", path.read_bytes()[16:24]) == (1280, 1600)
    assert path.stat().st_size > 50_000
