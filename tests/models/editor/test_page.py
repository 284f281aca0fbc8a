"""The page in Chromium: break a row, read the message, take the fix, swap a module, save, train."""

import os
import shutil
import subprocess
import threading

import numpy as np
import pytest

from graftdet.models.editor.api import EditorApi
from graftdet.models.editor.edited_file import EditedFile, model_text
from graftdet.models.editor.server import EditorServer
from graftdet.models.lint.check import check_model
from graftdet.utils.environment import script_command
from graftdet.utils.images.io import write_image

pytestmark = pytest.mark.usefixtures("restore_registry")  # a plugin leaves all rows to torch

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("Chromium is not installed", allow_module_level=True)
sync_api = pytest.importorskip("playwright.sync_api")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WAIT = 60_000  # ms


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(model_text("yolov5n.yaml"))
    return file


@pytest.fixture
def server(path):
    server = EditorServer(EditorApi(EditedFile(str(path))))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(params=[1280, 400], ids=["wide", "narrow"])
def page(browser, server, request):
    context = browser.new_context(viewport={"width": request.param, "height": 800})
    context.set_default_timeout(WAIT)
    page = context.new_page()
    page.problems, page.addresses = [], set()
    page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("request", lambda sent: page.addresses.add(sent.url.split("/")[2]))
    page.goto(server.url)
    page.wait_for_selector("body[data-ready]")
    yield page
    assert [text for text in page.problems if "409 (Conflict)" not in text] == [] and page.addresses == {
        f"127.0.0.1:{server.port}"
    }
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    context.close()


def show(page, tab):
    if page.viewport_size["width"] < 900 or tab != "yaml":
        page.click(f"nav [data-tab={tab}]")


def type_after(page, line, keys, text):
    """Type at the end of the line that contains `line`, after pressing `keys`."""
    page.click(f".cm-line:has-text('{line}')")
    page.keyboard.press("End")
    for key in keys:
        page.keyboard.press(key)
    page.keyboard.type(text)
    page.keyboard.press("Escape")


def test_break_fix_swap_and_save(page, path, server):
    original = path.read_text()
    assert server.token not in page.url
    type_after(page, "# 2", ["ArrowLeft"] * len(", [128]]  # 2"), "3")  # C3 -> C33
    problem = page.locator(".problems .error")
    problem.wait_for()
    assert "'C33' is not a known module; did you mean 'C3'?" in problem.inner_text()
    assert "line 14" in problem.inner_text() and page.locator(".cm-lintRange-error").inner_text() == "C33"
    assert path.read_text() == original
    show(page, "graph")
    assert "C33" in page.locator("g.error").text_content()
    show(page, "yaml")
    problem.locator("button.fix").click()
    page.locator(".problems .none").wait_for()
    page.click("#undo")
    problem.wait_for()
    page.click("#redo")
    page.locator(".problems .none").wait_for()

    show(page, "graph")
    page.locator("g[data-row='6']").click()
    page.click("#swap")
    page.fill("dialog input[name=module]", "C3_GhostModule")
    page.click("dialog button.primary")
    page.locator(".message", has_text="C3_GhostModule for C3").wait_for()
    page.locator("g[data-row='6']", has_text="C3_GhostModule").wait_for()
    page.click("#save")
    page.locator(".message", has_text="Saved").wait_for()
    assert path.read_text() == original.replace("[-1, 9, C3, [512]]", "[-1, 9, C3_GhostModule, [512]]")
    assert check_model(path) == []
    train_one_epoch(path)


def train_one_epoch(path):
    """Train the saved file as a user would, in another process."""
    command = [*script_command("train"), "--cfg", str(path), "--data", str(path.with_name("data.yaml"))]
    flags = "--epochs 1 --img 64 --batch-size 8 --weights none --workers 0 --device cpu --plots none --name trained"
    (path.parent / "images").mkdir()
    (path.parent / "labels").mkdir()
    for number in range(8):
        write_image(path.parent / "images" / f"{number}.png", np.full((64, 64, 3), 20 * number, np.uint8))
        (path.parent / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (path.parent / "data.yaml").write_text("path: .\ntrain: images\nval: images\nnames: [thing]\n")
    done = subprocess.run([*command, *flags.split()], cwd=path.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (path.parent / "runs" / "train" / "trained" / "weights" / "best.pt").is_file()


def test_rows_modules_and_comparison(page, path):
    show(page, "rows")
    page.click("tr[data-row='9']")
    assert page.locator("tr.selected").get_attribute("data-row") == "9"
    assert "SPPF" in page.locator(".cm-row-selected, .cm-activeLine").first.text_content()
    page.click("#delete")
    page.locator(".sums", has_text="24 rows").wait_for()
    page.click("#compare")
    page.click("dialog button.primary")
    page.locator("dialog h3", has_text="differ").wait_for()
    assert "9 SPPF" in page.locator("dialog .lines").inner_text()
    page.click("dialog button.primary")
    show(page, "modules")
    page.fill("input[type=search]", "squeeze excitation")
    page.click(".modules summary >> nth=0")
    page.locator(".modules details[open] .signature").wait_for()


def test_a_file_that_changed_meanwhile_is_not_lost(page, path):
    show(page, "yaml")
    type_after(page, "# 2", [], "x")
    path.write_text("# other\n" + path.read_text())
    page.click("#save")
    page.locator("dialog", has_text="was changed on disk").wait_for()
    page.click("dialog button >> text=Cancel")
    assert path.read_text().startswith("# other\n")


def test_names_in_the_file_are_text(browser, tmp_path, server, path):
    text = path.read_text().replace("[-1, 6, C3, [256]]", "[-1, 6, '<img src=x onerror=alert(1)>', [256], '<b>n</b>']")
    path.write_text(text.replace("# YOLOv5n", "# <script>alert(2)</script>"))
    page = browser.new_context().new_page()
    alerts = []
    page.on("dialog", lambda dialog: (alerts.append(dialog.message), dialog.dismiss()))
    page.goto(server.url)
    page.locator(".problems .error").first.wait_for(timeout=WAIT)
    assert "<img src=x onerror=alert(1)>" in page.locator(".problems").inner_text()
    assert page.locator("img").count() == 0 and page.locator("main script").count() == 0 and alerts == []
    page.context.close()


@pytest.mark.skipif(os.name == "nt", reason="file: addresses")
def test_another_origin_cannot_use_the_server(browser, server, path, tmp_path):
    other = EditorServer(server.api)  # another origin: other port
    threading.Thread(target=other.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    page = browser.new_context().new_page()
    page.goto(other.url)
    attack = """async ([address, token]) => {
        try {
            const answer = await fetch(address, {method: "POST", headers: {"X-GraftDet-Token": token,
                "Content-Type": "application/json"}, body: JSON.stringify({text: "nc: 1", digest: "", overwrite: true})});
            return answer.status;
        } catch (error) { return String(error); }
    }"""
    before = path.read_text()
    assert "Failed to fetch" in page.evaluate(attack, [f"http://127.0.0.1:{server.port}/api/save", server.token])
    assert path.read_text() == before
    page.context.close()
    other.shutdown()
    other.server_close()
