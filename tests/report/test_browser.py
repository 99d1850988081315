"""The page in a real browser: headless Chromium, spoken to through its DevTools protocol."""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_montage import make_tables as make_pair
from test_montage import write_cohort
from test_report import NASTY, PIXEL, make_tables
from tornado import websocket

from rankseg_rma.report.examples import Choice
from rankseg_rma.report.page import PageChart, PageContent, ViewerCase, render_page
from rankseg_rma.report.pictures import find_pictures
from rankseg_rma.report.viewer import load_viewer

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--remote-debugging-port=0", "--window-size=1200,900",
)  # fmt: skip
# Only against a browser that hangs: a busy machine is waited for.
PATIENCE_SECONDS = 600


def need(found, what):
    """Skip without a piece that a developer may lack; in CI it must be there."""
    if not found and os.environ.get("CI"):
        pytest.fail(f"{what} is missing in CI")
    if not found:
        pytest.skip(f"{what} is not there")


class Browser:
    """One tab; every event that it sends is kept."""

    def __init__(self, folder):
        self.loop = asyncio.new_event_loop()
        self.events, self.number, self.profile = [], 0, folder
        command = [PROGRAM, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.socket = self.loop.run_until_complete(self._connect())
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    async def _connect(self):
        """Open the tab's socket; the port stands in a file, the tab is made anew, so that its address is known."""
        port, end = self.profile / "DevToolsActivePort", time.monotonic() + PATIENCE_SECONDS
        while not (port.is_file() and port.read_text(encoding="ascii").count("\n")):
            assert time.monotonic() < end, "Chromium did not start"
            await asyncio.sleep(0.05)
        number, path = port.read_text(encoding="ascii").split("\n")[:2]
        browser = await websocket.websocket_connect(f"ws://127.0.0.1:{number}{path}")
        await browser.write_message(json.dumps({"id": 1, "method": "Target.getTargets"}))
        targets = json.loads(await browser.read_message())["result"]["targetInfos"]
        browser.close()
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        address = f"ws://127.0.0.1:{number}/devtools/page/{page}"
        return await websocket.websocket_connect(address, max_message_size=2**28)

    def call(self, method, **parameters):
        return self.loop.run_until_complete(self._call(method, parameters))

    async def _call(self, method, parameters):
        self.number += 1
        await self.socket.write_message(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(await asyncio.wait_for(self.socket.read_message(), PATIENCE_SECONDS))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self.events.append(message)

    def run(self, script):
        """Value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, script):
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE_SECONDS
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def open(self, path):
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({path.as_uri()!r})")

    def reload(self):
        """Load the page again; without scripts too, so its own word cannot be asked."""
        self.events.clear()
        self.call("Page.reload")
        self.loop.run_until_complete(self._event("Page.loadEventFired"))

    async def _event(self, method):
        while all(event["method"] != method for event in self.events):
            self.events.append(json.loads(await asyncio.wait_for(self.socket.read_message(), PATIENCE_SECONDS)))

    def complaints(self):
        """Errors, exceptions, console messages, and requests for anything that is not in the page."""
        found = [
            event for event in self.events if event["method"] in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        ]
        logged = [event["params"]["entry"] for event in self.events if event["method"] == "Log.entryAdded"]
        found += [entry for entry in logged if entry["level"] == "error"]
        requests = [event["params"]["request"]["url"] for event in self.events
                    if event["method"] == "Network.requestWillBeSent"]  # fmt: skip
        return found + [url[:90] for url in requests if not url.startswith(("data:", "blob:", "file:"))]

    def close(self):
        with suppress(Exception):
            self.call("Browser.close")
        self.loop.run_until_complete(self._close_socket())
        self.loop.close()
        self.process.terminate()
        self.process.wait(PATIENCE_SECONDS)

    async def _close_socket(self):
        self.socket.close()
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    need(PROGRAM, "chromium")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A page with everything in it."""
    files, _ = write_cohort(tmp_path_factory.mktemp("cohort"), "LPS", case_ids=("case_1", "case_2"))
    pair = make_pair({"case_1": (0.5, 0.6), "case_2": (0.7, 0.6)})
    pair.scores["label"] = "1+2+3"
    choices = [Choice("changed", "case_1", "1+2+3"), Choice("worst", "case_2", "1+2+3")]
    found = find_pictures(pair, choices, files)
    assert not found.notes
    return PageContent(
        "A cohort", make_tables(12), [PageChart("one", "A chart", "How to read it", PIXEL)], found.montages,
        found.viewer_cases, load_viewer(), {"rma/case_9": "damaged"}, {"rma": ["case_8"]}, "", "kits", ["a note"],
        {"version": "1", "inputs": {"case_1": "ab" * 32}},
    )  # fmt: skip


@pytest.fixture
def show(browser, content, tmp_path):
    def write(**changes):
        path = Path(tmp_path) / "page.html"
        path.write_text(render_page(replace(content, **changes)), encoding="utf-8")
        browser.open(path)
        return browser

    return write


def first_column(browser, column=0):
    rows = "[...document.querySelectorAll('#case-table tbody tr')].filter((row) => !row.hidden)"
    return browser.run(f"{rows}.map((row) => row.cells[{column}].textContent)")


def test_page_loads_without_a_complaint(show):
    page = show()
    assert page.complaints() == []
    assert page.run("[...document.images].filter((image) => !(image.complete && image.naturalWidth > 0)).length") == 0
    assert page.run("document.images.length") == 3
    widths = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.run(widths)
    page.call("Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=2, mobile=True)
    assert page.run(f"{widths} && [...document.images].every((image) => image.getBoundingClientRect().right <= 390)")
    page.call("Emulation.clearDeviceMetricsOverride")


def test_dark_page_is_dark(show):
    page = show()
    light = page.run("getComputedStyle(document.body).backgroundColor")
    page.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    dark, ink = (page.run(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color"))
    page.call("Emulation.setEmulatedMedia", media="print", features=[])
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    page.call("Emulation.setEmulatedMedia", media="", features=[])
    assert (light, paper) == ("rgb(255, 255, 255)", "rgb(255, 255, 255)")
    assert max(map(int, dark[4:-1].split(", "))) < 60 < 180 < min(map(int, ink[4:-1].split(", ")))


def test_headings_sort(show):
    page = show()
    heading = "document.querySelectorAll('#case-table th button')"
    start = first_column(page)
    for key, expected in (("ascending", sorted), ("descending", lambda values: sorted(values, reverse=True))):
        page.run(f"{heading}[2].focus(); document.activeElement.click()")
        values = [float(text) for text in first_column(page, 2)]
        assert values == expected(values)
        assert page.run(f"{heading}[2].parentElement.getAttribute('aria-sort')") == key
    page.run(f"{heading}[5].click()")
    assert page.run("document.querySelectorAll('#case-table [aria-sort]').length") == 1
    for _ in range(2):  # what is not defined stays last, whichever way
        assert first_column(page, 5)[-1] == "–"
        page.run(f"{heading}[5].click()")
    page.run(f"{heading}[0].click()")
    assert first_column(page) == sorted(start)


def test_filters_narrow_the_cases(show):
    page = show()
    page.run("let text = document.getElementById('case-text'); text.value = 'CASE_007'; "
             "text.dispatchEvent(new Event('input'))")  # fmt: skip
    assert first_column(page) == ["case_007", "case_007"]
    assert page.run("document.getElementById('case-count').textContent") == "2 of 24 rows"
    page.run("text.value = ''; text.dispatchEvent(new Event('input')); let status = "
             "document.getElementById('case-status'); status.value = 'reference empty'; "
             "status.dispatchEvent(new Event('change'))")  # fmt: skip
    assert first_column(page) == ["case_005"]
    target = page.run("document.querySelector('#costs + .wide a').getAttribute('href')")
    page.run("document.querySelector('#costs + .wide a').click()")
    page.wait(f"!document.querySelector({target!r}).hidden")
    assert len(first_column(page)) == 24


def test_page_is_whole_without_javascript(show):
    page = show()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.reload()
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    assert page.run("document.querySelectorAll('#case-table tbody tr').length") == 24
    assert page.run("document.querySelectorAll('#case-table button').length") == 0
    assert page.run("document.getElementById('case-filter').hidden")
    assert page.run("document.getElementById('viewer-box')?.hidden ?? true"), "hidden, or left out with the viewer"


def test_names_do_no_harm(show, content):
    tables = make_tables(8, names=lambda number: NASTY[number % 4] + str(number))
    cases = [replace(case, title=NASTY[2], masks=dict(zip(("reference", *NASTY[:2]), case.masks.values(), strict=True)))
             for case in content.viewer_cases]  # fmt: skip
    page = show(title=NASTY[2], tables=tables, viewer_cases=cases, failed={NASTY[0]: NASTY[1]}, notes=list(NASTY),
                charts=[PageChart(NASTY[1], NASTY[1], NASTY[1], PIXEL)], partial=NASTY[1])  # fmt: skip
    assert page.run("document.title") == NASTY[2]
    assert page.complaints() == []
    assert page.run("document.querySelectorAll('img:not([src^=\"data:\"]), [onerror]').length") == 0
    assert NASTY[1] + "1" in first_column(page)
    assert not [event for event in page.events if event["method"] == "Page.javascriptDialogOpening"]
    # what got in nevertheless could not run
    page.run(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" onerror=\"window.harm = 1\">');"
        " new Promise((done) => document.body.lastElementChild.addEventListener('error', () => setTimeout(done)))"
    )
    assert page.run("window.harm") is None


def test_page_without_the_viewer(show):
    page = show(viewer_script=None)
    assert page.complaints() == []
    assert "npm was not found when the package was built" in page.run("document.body.innerText")
    assert page.run("document.querySelectorAll('canvas').length") == 0
    assert page.run("document.querySelectorAll('.pictures img').length") == 2


# The viewer


@pytest.fixture
def viewer(show):
    need(load_viewer(), "the built viewer (make viewer)")
    page = show()
    page.run("document.getElementById('viewer-open').click()")
    page.wait("document.getElementById('viewer-start').hidden || document.getElementById('viewer-message')"
              ".textContent.startsWith('This browser')")  # fmt: skip
    assert page.run("document.getElementById('viewer-start').hidden"), page.run(
        "document.getElementById('viewer-message').textContent"
    )
    return page


def pixels(page):
    """What the canvas shows, (rows, columns, 3)."""
    from io import BytesIO

    import matplotlib.image

    page.run("document.getElementById('viewer-canvas').scrollIntoView()")
    page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done, 100)))")
    area = page.run(
        "(() => { const box = document.getElementById('viewer-canvas').getBoundingClientRect();"
        " return { x: box.x + scrollX, y: box.y + scrollY, width: box.width, height: box.height, scale: 1 } })()"
    )
    data = page.call("Page.captureScreenshot", format="png", clip=area, captureBeyondViewport=True)["data"]
    return matplotlib.image.imread(BytesIO(base64.b64decode(data)))[..., :3]


def count_colour(picture, colour):
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return int((np.abs(picture - rgb).max(axis=-1) < 0.06).sum())


def switch(page, name, value):
    page.run(
        f"(() => {{ const input = [...document.querySelectorAll('#viewer-masks label')]"
        f".find((label) => label.textContent === {name!r}).querySelector('input');"
        f" input.checked = {json.dumps(value)}; input.dispatchEvent(new Event('change')); }})()"
    )


def test_viewer_shows_slices(viewer):
    picture = pixels(viewer)
    assert len(np.unique(np.round(picture.mean(axis=-1), 2))) > 20
    thirds = np.array_split(picture, 3, axis=1)
    assert all(third.std() > 0.05 for third in thirds)
    assert viewer.complaints() == []
    assert "Where the planes cross: reference" in viewer.run("document.getElementById('viewer-where').textContent")


def test_masks_are_switched_on_and_off(viewer):
    colours = {"reference": "#009E73", "argmax": "#E69F00", "rma": "#56B4E9"}
    viewer.run("let opacity = document.getElementById('viewer-opacity'); opacity.value = 1; "
               "opacity.dispatchEvent(new Event('input'))")  # fmt: skip
    with_all = pixels(viewer)
    assert all(count_colour(with_all, colour) > 20 for colour in colours.values())
    for name, colour in colours.items():
        switch(viewer, name, False)
        without = pixels(viewer)
        assert count_colour(without, colour) == 0, name
        switch(viewer, name, True)
    for name in ("argmax", "rma"):
        switch(viewer, name, False)
    outlines = count_colour(pixels(viewer), colours["reference"])
    viewer.run("let outline = document.getElementById('viewer-outline'); outline.checked = false; "
               "outline.dispatchEvent(new Event('change'))")  # fmt: skip
    filled = count_colour(pixels(viewer), colours["reference"])
    assert filled > 1.3 * outlines
    viewer.run("opacity.value = 0; opacity.dispatchEvent(new Event('input'))")
    assert count_colour(pixels(viewer), colours["reference"]) == 0
    assert viewer.complaints() == []


def test_viewer_moves_and_changes_case(viewer):
    before = pixels(viewer)
    viewer.run("let slider = document.querySelectorAll('.viewer-slice')[2]; slider.value = 0; "
               "slider.dispatchEvent(new Event('input'))")  # fmt: skip
    moved = pixels(viewer)
    assert np.abs(before - moved).max() > 0.2
    assert "reference no, argmax no, rma no" in viewer.run("document.getElementById('viewer-where').textContent")
    viewer.run("let chosen = document.getElementById('viewer-case'); chosen.value = '1'; "
               "chosen.dispatchEvent(new Event('change'))")  # fmt: skip
    viewer.wait("!document.getElementById('viewer-where').textContent.includes('reference no, argmax no, rma no')")
    assert viewer.complaints() == []


def test_viewer_without_an_image(show, content):
    need(load_viewer(), "the built viewer (make viewer)")
    case = content.viewer_cases[0]
    page = show(viewer_cases=[ViewerCase("a", "no image", None, case.masks, "1", case.place)])
    page.run("document.getElementById('viewer-open').click()")
    page.wait("document.getElementById('viewer-start').hidden")
    picture = pixels(page)
    assert count_colour(picture, "#000000") > 0.5 * picture[..., 0].size
    assert page.complaints() == []
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 3
