"""Chromium without a window, driven by its own command line, and what is in the page that it returns."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--virtual-time-budget=3000",
)  # fmt: skip


def find_browser() -> str | None:
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def run(url: str, profile: Path, *options: str) -> str:
    """Open a page with a fresh profile; returns its DOM as it is after loading."""
    command = [str(find_browser()), *FLAGS, f"--user-data-dir={profile}", *options, "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


def screenshot(url: str, profile: Path, target: Path, *, width: int, height: int) -> Path:
    command = [
        str(find_browser()), *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}",
        f"--screenshot={target}", url,
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, timeout=120, check=True)
    return target


HARMLESS = {
    "html", "head", "meta", "title", "style", "body", "main", "header", "section", "article", "div", "p", "span", "br",
    "h1", "h2", "h3", "h4", "ul", "li", "dl", "dt", "dd", "pre", "code", "details", "summary", "table", "thead",
    "tbody", "tr", "th", "td", "svg", "g", "line", "rect", "circle", "text", "tspan",
}  # fmt: skip
"""Elements that can neither run nor fetch anything."""


class Seen(HTMLParser):
    """Elements, attributes and texts of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.texts, self.title = set(), set(), [], ""
        self._inside = ""
        self.feed(page)
        self.text = " ".join(" ".join(self.texts).split())

    def harmless(self):
        """Whether no element and no attribute can run or fetch anything."""
        active = {"style", "src", "href", "action", "srcset", "data", "srcdoc", "xlink:href"}
        named = [name for name in self.attributes if name.startswith("on") or name in active]
        return self.tags <= HARMLESS and not named

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside != "style":
            self.texts.append(data)
        if self._inside == "title" and not self.title:
            self.title = data
