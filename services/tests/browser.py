"""A headless Chromium that looks at the dashboard as a person would, and tells what it asked for and complained of."""

import json
import re
import shutil
import time

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

PATIENCE = 30
LIGHT, DARK = "light", "dark"


def chromium():
    """A browser; fails where there is none."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    missing = [name for name, path in programs.items() if not path]
    assert not missing, f"{missing} missing: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    # Names resolve to nothing: a page that needs another host fails here.
    for argument in (
        "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(programs["chromedriver"]))


class Page:
    """The dashboard of one address."""

    def __init__(self, driver, address):
        self.driver, self.address = driver, address
        self.logs("browser"), self.logs("performance")  # what was before
        driver.get(f"http://{address}/")

    def logs(self, kind):
        return self.driver.get_log(kind)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def text(self, selector):
        """What a person reads there, with plain spaces; '' where there is nothing."""
        read = "return [...document.querySelectorAll(arguments[0])].map(e => e.innerText ?? e.textContent).join(' | ')"
        return " ".join(self.driver.execute_script(read, selector).replace("\xa0", " ").split())

    def number(self, name):
        """A figure by its data-number, with its unit."""
        return self.text(f'[data-number="{name}"]')

    def cell(self, table, key, column):
        return self.text(f'#{table} tr[data-key="{key}"] [data-column="{column}"]')

    def shows(self, selector, text, patience=PATIENCE):
        """Waits until it stands there."""
        end = time.monotonic() + patience
        while text not in (seen := self.text(selector)):
            assert time.monotonic() < end, f"waited {patience} s for '{text}' at {selector}; there is '{seen}'"
            time.sleep(0.2)
        return seen

    def look(self, width=1280, scheme=LIGHT):
        """A window of this width, in this scheme."""
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def overflows(self):
        """Whether the page is wider than its window."""
        return self.driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")

    def complaints(self):
        """What the console has of errors and warnings; requests that fail are the page's to tell, and are left out."""
        return [e["message"] for e in self.logs("browser") if "ERR_CONNECTION" not in e["message"] and "503 (Service" not in e["message"]]

    def hosts(self):
        """Every host that was asked."""
        messages = [json.loads(entry["message"])["message"] for entry in self.logs("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return {m[1] for url in urls if (m := re.match(r"\w+://([^/]+)", url))}


@pytest.fixture(scope="module")
def driver():
    browser = chromium()
    yield browser
    browser.quit()
