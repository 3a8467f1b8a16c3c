"""``flywheel.js`` in a real browser: each gesture on the example's chat page becomes a row of the lake."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import browser
import pytest
from served_gateway import served_gateway

from flywheel.capture.ingest import ingest_once
from flywheel.capture.ship import ship_once
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import open_lake
from flywheel.operate.init import Answers, write
from flywheel.records import Feedback, Inference

DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(browser.find_browser() is None, reason="no Chromium is installed (apt-get install chromium)"),
    pytest.mark.skipif(DRIVER is None, reason="no chromedriver is installed (apt-get install chromium-driver)"),
]
WAIT_S = 30


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with served_gateway(tmp_path_factory.mktemp("home"), keys=["secret"]) as served:
        yield served


@pytest.fixture(scope="module")
def page(tmp_path_factory, gateway):
    """The example of ``flywheel init``, started as its first line says."""
    folder = tmp_path_factory.mktemp("product")
    write(folder, Answers())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "FLYWHEEL_URL": gateway.url, "FLYWHEEL_API_KEY": "secret", "PORT": str(port)}
    process = subprocess.Popen([sys.executable, folder / "examples/chat.py"], env=environment)
    try:
        yield wait_for(f"http://127.0.0.1:{port}/", process)
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url, process):
    while True:
        assert process.poll() is None, "the example ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return url


@pytest.fixture
def driver(tmp_path):
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = browser.find_browser()
    for flag in (*browser.FLAGS, f"--user-data-dir={tmp_path}/profile", "--window-size=900,700"):
        if not flag.startswith("--virtual-time"):
            options.add_argument(flag)
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        started.implicitly_wait(WAIT_S)
        yield started
    finally:
        started.quit()


class Person:
    """What somebody does on the page."""

    def __init__(self, driver, page):
        from selenium.webdriver.common.by import By

        self.driver, self.by = driver, By.CSS_SELECTOR
        driver.get(page)

    def find(self, selector):
        return self.driver.find_element(self.by, selector)

    def ask(self, text):
        """Ask and see the answer; its element."""
        before = len(self.driver.execute_script("return document.querySelectorAll('main .model')"))
        self.find("#question").send_keys(text)
        self.find("form button").click()
        return self.find(f"main .model:nth-of-type({2 * (before + 1)})")

    def keys(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def copy(self, element):
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        select = "const r = document.createRange(); r.selectNodeContents(arguments[0]); const s = getSelection();"
        self.driver.execute_script(f"{select} s.removeAllRanges(); s.addRange(r);", element)
        ActionChains(self.driver).key_down(Keys.CONTROL).send_keys("c").key_up(Keys.CONTROL).perform()


def stored(gateway, kind, count=1):
    """The rows of a kind in the outbox, once there are so many."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        rows = [row for row in gateway.rows("feedback") if row["kind"] == kind]
        if len(rows) >= count:
            return rows
        time.sleep(0.1)
    raise AssertionError(f"no {kind} came; there are {[row['kind'] for row in gateway.rows('feedback')]}")


def thumbs(gateway):
    return [row["inference_id"] for row in gateway.rows("feedback") if row["kind"] == "thumbs"]


def test_each_gesture_is_a_row_of_the_lake(gateway, page, driver):
    from selenium.webdriver.common.keys import Keys

    person = Person(driver, page)
    first = person.ask("where is my order")
    assert "WHERE IS MY ORDER" in first.text
    thumb = first.find_element("css selector", "[data-flywheel-thumbs='-1']")
    thumb.click()
    assert thumb.get_attribute("aria-pressed") == "true"
    assert stored(gateway, "thumbs")[0]["value"] == -1

    words = first.find_element("css selector", "[data-flywheel-edit]")
    person.copy(words)
    assert stored(gateway, "copy")[0]["value"] == len("WHERE IS MY ORDER")

    words.click()
    words.send_keys(Keys.CONTROL, "a")
    words.send_keys("It arrives tomorrow.")
    person.find("#question").click()
    assert stored(gateway, "correction")[0]["text"] == "It arrives tomorrow."

    time.sleep(1.2)  # a look of more than a second
    second = person.ask("where is it really")
    assert "WHERE IS IT REALLY" in second.text
    assert stored(gateway, "dwell")[0]["value"] >= 1_000
    stored(gateway, "reprompt")
    driver.execute_script(
        "const a = document.createElement('a'); a.href = '#x'; a.textContent = 'source'; arguments[0].append(a);",
        second,
    )
    second.find_element("css selector", "a").click()
    assert stored(gateway, "click")[0]["value"] == 0
    time.sleep(1.2)
    driver.get("about:blank")  # the person leaves: what is left goes as beacons, about either answer first
    deadline = time.monotonic() + WAIT_S
    while len({row["inference_id"] for row in stored(gateway, "dwell")}) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    lake = open_lake(gateway.config)
    keyring = Keyring(gateway.config.home_path())
    ship_once(gateway.config.home_path() / "outbox", lake.store, gateway.config.capture, keyring)
    ingest_once(lake, gateway.config, keyring)
    asked = sorted(lake.records("inferences", Inference), key=lambda row: row.ts)
    assert [row.messages[-1].content for row in asked] == ["where is my order", "where is it really"]
    assert asked[1].parent_id == asked[0].inference_id
    arrived = lake.records("feedback", Feedback)
    first_id, second_id = (row.inference_id for row in asked)
    about = {first_id: set(), second_id: set()}
    for row in arrived:
        about[row.inference_id].add(row.kind)
    assert about == {first_id: {"thumbs", "copy", "correction", "dwell", "reprompt"}, second_id: {"click", "dwell"}}
    assert {row.subject for row in arrived} == {asked[0].subject}


def test_without_the_persons_consent_nothing_is_noted(gateway, page, driver):
    person = Person(driver, page)
    driver.execute_script("flywheel.options.allowed = () => false;")
    before = len(thumbs(gateway))
    person.ask("quiet please").find_element("css selector", "[data-flywheel-thumbs='1']").click()
    driver.execute_script("flywheel.options.allowed = () => true;")
    answer = person.ask("now you may")
    answer.find_element("css selector", "[data-flywheel-thumbs='1']").click()
    stored(gateway, "thumbs", before + 1)
    assert thumbs(gateway)[before:] == [gateway.rows("inference")[-1]["inference_id"]]


def test_a_gateway_that_is_away_for_a_moment_loses_nothing(gateway, page, driver):
    person = Person(driver, page)
    answer = person.ask("try again")
    driver.execute_script(
        "let left = 2; const real = window.fetch.bind(window);"
        "flywheel.options.fetch = (...a) => left-- > 0 ? Promise.resolve(new Response('', {status: 503})) : real(...a);"
    )
    before = len(thumbs(gateway))
    answer.find_element("css selector", "[data-flywheel-thumbs='1']").click()
    stored(gateway, "thumbs", before + 1)
    assert driver.execute_script("return flywheel.dropped") == 0


def test_what_is_refused_is_dropped_counted_and_does_not_block(gateway, page, driver):
    person = Person(driver, page)
    answer = person.ask("one more")
    driver.execute_script(
        "flywheel.send({inference_id: crypto.randomUUID(), feedback_token: 'forged'}, 'thumbs', {value: 1});"
    )
    before = len(thumbs(gateway))
    answer.find_element("css selector", "[data-flywheel-thumbs='1']").click()
    stored(gateway, "thumbs", before + 1)
    assert driver.execute_script("return flywheel.dropped") == 1
