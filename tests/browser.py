"""Chromium without a window, driven by its own command line: nothing to install beside the browser."""

import shutil
import subprocess
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
