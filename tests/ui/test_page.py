"""The page in a browser, on a small simulated scan and a server as a person starts it, with no network but its own."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright", reason="playwright is not installed")
pytest.importorskip("fastapi", reason="the extra 'ui' is not installed")

from playwright.sync_api import Browser, sync_playwright

from allpet.io.store import write_store
from ui.page_support import FLAGS, LARGE, SMALL, Seen, browser_path, picture, served, until
from ui_support import data

pytestmark = pytest.mark.skipif(browser_path() is None, reason="there is no Chromium on this computer")
CENTRE, AXES = (-40.0, 20.0), (30.0, 20.0)
CORNERS = ((-70.0, 40.0), (-10.0, 0.0))
Opener = Callable[..., Seen]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    write_store(data(0), folder / "small.zarr")
    (folder / "out").mkdir()
    with served(folder / "small.zarr", folder / "out") as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser_path(), args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Opener]:
    """Opens a page; when the test ends, nothing was asked from elsewhere and nothing stands in the console."""
    pages: list[Seen] = []

    def make(**options: Any) -> Seen:
        pages.append(Seen(browser, address, **options))
        return pages[-1]

    yield make
    for seen in pages:
        seen.close()


def curve(state: dict[str, Any], x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
    """s of a point at every view, and the bins next to it."""
    phi, s = (np.array(state["lines"][name]) for name in ("phi", "s"))
    along = x * np.cos(phi) + y * np.sin(phi)
    return along, np.abs(s[None, :] - along[:, None]).argmin(axis=1)


def test_it_opens_and_a_suggestion_is_accepted(opened: Opener):
    seen = opened()
    page, state = seen.page, seen.state
    assert page.inner_text("#scan option") == "small.zarr" and "FDG, abdomen" in page.inner_text("#facts")
    assert "research only" in page.inner_text("footer") and page.get_attribute("#stage", "data-viewer") == "NiiVue"
    page.click("#outlines")
    page.keyboard.press("o")
    assert page.inner_text("#outlines") == "no outlines"
    assert state["suggestions"] and np.all(seen.sinogram("attention") == 1)
    page.select_option("#which", "all")
    first = page.locator("#suggestions li").first
    assert first.locator(".why").inner_text().strip() == state["suggestions"][0]["why"]
    first.get_by_role("button", name="Accept").click()
    seen.drawn(1)
    assert page.locator("#regions .name").input_value() == state["suggestions"][0]["name"]
    assert page.locator("#suggestions li").count() == len(state["suggestions"]) - 1
    assert float(seen.sinogram("attention").max()) > 1 and page.inner_text("#status").endswith(" ms")
    page.get_by_role("button", name="Dismiss").first.click()
    seen.drawn(2)
    assert len(seen.state["suggestions"]) == len(state["suggestions"]) - 2
    page.click("#accept-all")
    seen.drawn(3)
    assert not seen.state["suggestions"] and page.locator("#no-suggestions").is_visible()


def test_an_ellipse_by_mouse_is_a_band_along_its_curve(opened: Opener, tmp_path: Path):
    seen = opened()
    page, state = seen.page, seen.state
    before, shown = seen.sinogram("attention"), seen.pixels("figure[data-of=attention] canvas")
    page.click("[data-tool=ellipse]")
    seen.drag(*CORNERS)
    seen.status("Ellipse drawn")
    seen.drawn(1)
    after = seen.sinogram("attention")
    along, bins = curve(state, *CENTRE)
    views = np.arange(len(bins))
    assert np.all(before == 1) and np.all(after[views, bins] > 1.3)
    far = np.abs(np.array(state["lines"]["s"])[None, :] - along[:, None]) > max(AXES) + 2 * state["image"]["pixel_mm"]
    assert np.all(after[far] == 1)
    np.testing.assert_allclose(seen.sinogram("emphasised"), seen.sinogram("scan") * after, rtol=1e-5)
    changed = np.any(seen.pixels("figure[data-of=attention] canvas") != shown, axis=2)[8:-34, 46:-66]
    height, width = changed.shape  # the plot, without its axes
    rows = ((views + 0.5) / len(views) * height).astype(int)[2:-2]
    columns = ((bins + 0.5) / state["scan"]["bins"] * width).astype(int)[2:-2]
    assert changed[rows, columns].mean() > 0.9 and changed.mean() < 0.5
    found = seen.state["regions"][0]
    assert found["source"] == "drawn" and found["volume_ml"] == pytest.approx(
        np.pi * AXES[0] * AXES[1] * state["image"]["plane_mm"] / 1000, rel=0.1
    )
    page.mouse.move(*seen.at(*CENTRE))
    page.screenshot(path=tmp_path / "ellipse.png")
    x, side, y, front = page.inner_text("#readout").splitlines()[1].replace(" mm", "").replace(",", "").split()
    assert (side, front) == ("R", "A") and (float(x), float(y)) == pytest.approx((40, 20), abs=2)


def test_strength_by_slider_number_and_key(opened: Opener):
    seen = opened(viewer="canvas")
    page = seen.page
    page.click("[data-tool=rectangle]")
    seen.drag(*CORNERS)
    seen.drawn(1)
    assert seen.state["attention"]["max"] == pytest.approx(2)
    number = page.locator("#regions input[type=number]")
    number.fill("3")
    number.press("Enter")
    seen.drawn(2)
    assert seen.state["attention"]["max"] == pytest.approx(4)
    slider = page.locator("#regions input[type=range]")
    slider.focus()
    slider.press("Home")
    seen.drawn(3)
    assert seen.state["attention"]["min"] == pytest.approx(0.1) and number.input_value() == "-0.9"
    page.locator("#stage").focus()
    for _ in range(5):
        page.keyboard.press("+")
    until(lambda: seen.state["regions"][0]["strength"] == pytest.approx(-0.4))
    seen.status("Strength of")
    assert page.locator("#regions input[type=range]").input_value() == "-0.4"


def test_regions_are_renamed_combined_erased_grown_and_deleted(opened: Opener):
    seen = opened(viewer="canvas")
    page = seen.page
    page.click("[data-tool=rectangle]")
    seen.drag(*CORNERS)
    seen.drag((-30.0, 30.0), (20.0, -10.0))
    seen.drawn(2)
    for tick in page.locator(".tick").all():
        tick.check()
    page.click("[data-how=intersection]")
    seen.drawn(3)
    (both,), pixel = seen.state["regions"], seen.state["image"]["pixel_mm"]
    assert both["source"] == "combined" and both["voxels"] * pixel**2 == pytest.approx(20 * 30, rel=0.3)
    page.keyboard.press("Control+z")
    seen.drawn(4)
    name = page.locator("#regions .name").first
    name.fill("left lobe")
    name.press("Enter")
    seen.drawn(5)
    assert seen.state["regions"][0]["name"] == "left lobe"
    page.click("[data-tool=eraser]")
    seen.drag((-70.0, 20.0), (-10.0, 20.0))
    seen.drawn(6)
    page.click("[data-tool=grow]")
    page.mouse.click(*seen.at(-40.0, 10.0))
    seen.drawn(7)
    assert seen.state["regions"][-1]["source"] == "grown"
    page.click("[data-tool=pen]")
    page.check("#fill")
    page.mouse.move(*seen.at(40.0, 40.0))
    page.mouse.down()
    for x, y in ((70.0, 40.0), (70.0, 0.0), (40.0, 0.0)):
        page.mouse.move(*seen.at(x, y), steps=4)
    page.mouse.up()
    seen.drawn(8)
    drawn = seen.state["regions"][-1]
    assert drawn["voxels"] * pixel**2 == pytest.approx(30 * 40, rel=0.1)
    page.keyboard.press("Delete")
    seen.drawn(9)
    assert len(seen.state["regions"]) == 3
    page.select_option("#preset", index=1)
    page.click("#preset-add")
    seen.drawn(10)
    assert seen.state["regions"][-1]["source"] == "preset"


def test_a_task_runs_is_compared_and_is_cancelled(opened: Opener, tmp_path: Path):
    seen = opened()
    page = seen.page
    page.click("[data-tool=ellipse]")
    seen.drag(*CORNERS)
    seen.drawn(1)
    page.click("#start")
    page.wait_for_selector("#result table", timeout=30_000)
    head, row = (page.locator(f"#result {part} tr").inner_text().split("\t") for part in ("thead", "tbody"))
    assert [word.strip() for word in head] == ["Region", "Before", "Without", "With ± σ", "Truth", "Bias %"]
    before, (after, deviation) = float(row[1]), (float(word) for word in row[3].split(" ± "))
    assert before > 0 and after > 0 and deviation > 0 and "%" not in row[5]
    assert page.get_attribute("[data-view=image]", "aria-checked") == "true"
    for view in ("less", "change", "std", "before", "image"):
        page.click(f"[data-view={view}]")
        page.wait_for_timeout(150)
        page.screenshot(path=tmp_path / f"{view}.png")
    page.focus("#stage")
    page.keyboard.press("b")
    assert page.get_attribute("[data-view=before]", "aria-checked") == "true"
    page.keyboard.press("b")
    page.keyboard.press("]")
    page.locator("#absent").wait_for()
    row = page.inner_text("#result tbody")
    page.reload()  # the numbers and the images are there again
    page.wait_for_selector("#result table")
    assert page.inner_text("#result tbody") == row and page.is_enabled("[data-view=std]")
    page.click("#task-options summary")
    page.fill("#option-samples", "64")
    page.select_option("#task-planes", "all")
    page.click("#start")
    page.click("#cancel")
    seen.status("Cancelled")
    assert page.locator("#start").is_visible() and page.locator("#result table").is_visible()
    page.fill("#option-prompt", "nonsense")
    page.click("#start")
    page.wait_for_function("() => document.getElementById('error').textContent.includes('nonsense')")
    seen.errors = [line for line in seen.errors if "400" not in line]  # the browser's own line on a refusal
    assert page.locator("#start").is_enabled()


def test_exports_are_files(opened: Opener, tmp_path: Path):
    seen = opened(viewer="canvas")
    page = seen.page
    page.keyboard.press("a")
    seen.drawn(1)
    for name in ("roi.nii.gz", "regions.json", "report.html", "audit.jsonl", "work.zip"):
        page.click("#export summary")
        with page.expect_download() as waiting:
            page.click(f"[data-export='{name}']")
        assert waiting.value.suggested_filename == name
        waiting.value.save_as(tmp_path / name)
        seen.status(f"{name} exported")
    assert "accept" in (tmp_path / "audit.jsonl").read_text()
    assert zipfile.ZipFile(tmp_path / "work.zip").testzip() is None
    json.loads((tmp_path / "regions.json").read_text())
    page.set_input_files("#file", tmp_path / "regions.json")
    seen.drawn(2)
    ours, theirs = seen.state["regions"]
    assert theirs["source"] == "file" and theirs["uptake"] == ours["uptake"]


def test_saved_work_is_there_again(opened: Opener):
    seen = opened(viewer="canvas")
    page = seen.page
    page.click("[data-tool=ellipse]")
    seen.drag(*CORNERS)
    seen.drawn(1)
    page.keyboard.press("s")
    seen.status("Saved")
    saved = [(one["name"], one["hash"]) for one in seen.state["regions"]]
    assert page.inner_text("#save") == "Saved"
    page.reload()  # goes on with the session
    seen.ready()
    assert [(one["name"], one["hash"]) for one in seen.state["regions"]] == saved
    page.evaluate("() => sessionStorage.removeItem('allpet-session')")
    page.goto(seen.address)  # as in a new tab
    seen.ready()
    seen.drawn()
    assert page.locator("#reopened").is_visible()
    assert page.locator("#regions li").count() == 1
    assert [(one["name"], one["hash"]) for one in seen.state["regions"]] == saved


def test_who_saves_second_is_asked_for_a_name(opened: Opener):
    one, two = opened(viewer="canvas"), opened(viewer="canvas")
    for seen in (one, two):
        seen.page.keyboard.press("a")
        seen.drawn(1)
    one.page.keyboard.press("s")
    one.status("Saved")
    two.page.keyboard.press("s")
    two.page.locator("#name-it").wait_for()
    assert two.page.inner_text("#name-why")
    two.page.fill("#name-as", "mine")
    two.page.keyboard.press("Enter")
    two.status("Saved")
    assert "small-attention-mine" in two.page.inner_text("#status") and two.page.inner_text("#save") == "Saved"
    two.page.keyboard.press("a")
    two.drawn(2)
    two.page.keyboard.press("s")  # goes on under that name
    two.status("Saved")
    assert "small-attention-mine" in two.page.inner_text("#status")
    two.errors = [line for line in two.errors if "409" not in line]


def test_unsaved_regions_are_not_lost_with_another_scan(browser: Browser, tmp_path: Path):
    scans, out = tmp_path / "scans", tmp_path / "out"
    out.mkdir()
    scans.mkdir()
    for k, name in enumerate(("one.zarr", "two.zarr")):
        write_store(data(k), scans / name)
    with served(scans, out) as address:
        seen = Seen(browser, address, viewer="canvas")
        page = seen.page

        def facts() -> tuple[str, int, bool]:
            regions = page.locator("#regions li").count()  # the server is not asked: one session gives way to another
            return page.input_value("#scan"), regions, page.locator("#leave").is_visible()

        def answer(words: str, regions: int, scan: str) -> None:
            page.get_by_role("button", name=words).click()
            until(lambda: facts() == (scan, regions, False))
            seen.drawn()

        held: list[Any] = []
        page.route("**/edits", lambda route: held.append(route))
        page.click("[data-tool=ellipse]")
        seen.drag(*CORNERS)
        until(lambda: page.is_visible("#stage") and bool(held))
        page.select_option("#scan", "two.zarr")  # while the edit is still under way
        page.wait_for_timeout(300)
        assert not page.is_visible("#leave")
        held[0].continue_()
        page.unroute("**/edits")
        page.locator("#leave").wait_for()
        seen.drawn(1)
        assert "one.zarr" in page.inner_text("#leave-what")
        page.screenshot(path=tmp_path / "leave.png")
        answer("Stay here", 1, "one.zarr")
        page.select_option("#scan", "two.zarr")
        page.keyboard.press("Escape")  # is no answer
        until(lambda: facts() == ("one.zarr", 1, False))
        page.select_option("#scan", "two.zarr")
        answer("Save first", 0, "two.zarr")
        page.select_option("#scan", "one.zarr")  # nothing to lose
        until(lambda: facts() == ("one.zarr", 1, False))
        seen.drawn()
        page.keyboard.press("a")
        until(lambda: facts() == ("one.zarr", 2, False))
        page.select_option("#scan", "two.zarr")
        answer("Go on without saving", 0, "two.zarr")
        page.select_option("#scan", "one.zarr")
        until(lambda: facts() == ("one.zarr", 1, False))
        seen.drawn()
        asked: list[str] = []
        page.on("dialog", lambda dialog: asked.append(dialog.type))
        page.keyboard.press("a")
        until(lambda: facts() == ("one.zarr", 2, False))
        page.reload()  # the browser asks by itself; here it is told to go on
        seen.ready()
        seen.drawn()
        assert asked == ["beforeunload"]
        seen.close()


def test_by_keys_alone(opened: Opener):
    seen = opened()
    page, keys = seen.page, seen.page.keyboard
    keys.press("?")
    page.locator("#keys").wait_for()
    keys.press("Escape")
    plane = int(page.input_value("#plane"))
    keys.press("]")
    keys.press("ArrowUp")
    keys.press("ArrowUp")
    assert int(page.input_value("#plane")) == plane - 1
    keys.press("a")
    seen.drawn(1)
    keys.press("e")
    for _ in range(4):
        keys.press("ArrowLeft")
    keys.press("Enter")
    keys.press("Shift+ArrowRight")
    keys.press("Shift+ArrowRight")
    keys.press("ArrowUp")
    keys.press("Enter")
    seen.drawn(2)
    drawn, pixel = seen.state["regions"][-1], seen.state["image"]["pixel_mm"]
    assert drawn["voxels"] * pixel**2 == pytest.approx(np.pi * 12 * (12 + 2 * pixel), rel=0.15)
    for _ in range(3):
        keys.press("+")
    until(lambda: seen.state["regions"][-1]["strength"] == pytest.approx(1.3))
    changed = seen.state["version"]
    for press, count in (("Control+z", 1), ("Control+z", 2), ("Control+Shift+z", 3)):
        keys.press(press)
        seen.drawn(changed + count)
    keys.press("x")
    keys.press("Enter")
    keys.press("ArrowLeft")
    keys.press("Escape")
    keys.press("Delete")
    seen.drawn(changed + 4)
    keys.press("s")
    seen.status("Saved")
    found = set()
    page.evaluate("() => document.activeElement.blur()")
    wanted = {"undo", "save", "theme", "help", "look", "grow", "stage", "plane", "low", "high", "colours", "preset"}
    wanted |= {"upload", "name", "tick", "accept-all", "task", "task-planes", "start"}
    for _ in range(120):  # everything is reached by Tab, and the focus is seen
        keys.press("Tab")
        name, line = page.evaluate("""() => {
            const {id, dataset, className} = document.activeElement;
            return [id || dataset.tool || className, getComputedStyle(document.activeElement).outlineStyle];
        }""")
        found.add(name)
        assert line != "none" or name in ("", "scroll"), name
        if wanted <= found:
            break
    assert wanted <= found


def test_edits_that_overlap_are_kept_in_order_and_a_failing_one_harms_nothing(opened: Opener):
    seen = opened(viewer="canvas")
    page = seen.page
    page.click("[data-tool=rectangle]")
    page.route("**/edits", lambda route: route.abort())
    seen.drag(*CORNERS)
    page.wait_for_function("() => document.getElementById('error').textContent.includes('does not answer')")
    page.unroute("**/edits")
    seen.errors.clear()
    for step in range(6):  # faster than the server answers
        seen.drag((-70.0 + 20 * step, 40.0), (-55.0 + 20 * step, 0.0))
    seen.drawn(6)
    assert [one["name"] for one in seen.state["regions"]] == [f"rectangle {k}" for k in range(1, 7)]
    assert page.inner_text("#error") == ""
    numbers = page.locator("#regions input[type=number]")
    numbers.first.fill("77")
    numbers.first.press("Enter")
    until(lambda: seen.state["regions"][0]["strength"] == 5)  # the page's largest
    seen.drawn(7)


def test_the_picture_follows_its_window(opened: Opener):
    """A lower upper end makes the picture brighter, and with the old one it looks as before."""
    page = opened().page
    page.select_option("#colours", "grey")
    page.wait_for_timeout(300)
    box = page.locator("#stage").bounding_box()
    assert box is not None
    seen = []
    for high in (900, 150, 900):
        page.locator("#high").evaluate(
            "(one, value) => { one.value = value; one.dispatchEvent(new Event('input', { bubbles: true })); }", high
        )
        page.wait_for_timeout(400)
        seen.append(float(picture(page.screenshot(clip={**box, "height": 400})).mean()))
    assert seen[1] > 1.1 * seen[0]
    assert abs(seen[2] - seen[0]) < 0.01 * seen[0]


def test_without_webgl_the_image_is_drawn_by_the_page_alike(opened: Opener):
    off = """const real = HTMLCanvasElement.prototype.getContext;
        HTMLCanvasElement.prototype.getContext = function (kind, ...more) {
            return kind.startsWith("webgl") ? null : real.call(this, kind, ...more);
        };"""
    shots = []
    for script in (None, off):
        seen = opened(script=script)
        page = seen.page
        page.select_option("#colours", "grey")
        assert page.locator("#note").is_visible() == bool(script)
        page.evaluate("() => document.getElementById('note').remove()")
        page.click("[data-tool=look]")
        page.mouse.move(*seen.at(50.0, 30.0))
        page.keyboard.press("z")
        page.mouse.move(5, 5)
        page.wait_for_timeout(400)
        box = page.locator("#stage").bounding_box()
        assert box is not None
        shots.append(picture(page.screenshot(clip={**box, "height": 400})).mean(axis=2))
    one, other = shots
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.97
    assert np.corrcoef(one[:, ::-1].ravel(), other.ravel())[0, 1] < 0.9


@pytest.mark.parametrize(("size", "scheme"), [(SMALL, "light"), (SMALL, "dark"), (LARGE, "light")])
def test_nothing_overlaps_or_is_cut(opened: Opener, tmp_path: Path, size: dict[str, int], scheme: str):
    seen = opened(size=size, color_scheme=scheme, viewer="canvas" if size is LARGE else "")
    page = seen.page
    for _ in range(2):
        page.keyboard.press("a")
    page.click("[data-tool=ellipse]")
    seen.drag(*CORNERS)
    seen.drawn(3)
    page.click("#start")
    page.wait_for_selector("#result table", timeout=30_000)
    for tool in ("look", "pen", "ellipse", "rectangle", "eraser", "grow"):
        page.click(f"[data-tool={tool}]")
        assert not seen.flaws()
    page.screenshot(path=tmp_path / f"page-{size['width']}-{scheme}.png")
    page.click("#help")
    box = page.locator("#keys").bounding_box()
    assert box is not None and min(box["x"], box["y"]) >= 0
    assert box["x"] + box["width"] <= size["width"] and box["y"] + box["height"] <= size["height"]


def test_a_phone_has_one_column_and_reopened_work_no_scroll_bar(opened: Opener):
    seen = opened(viewer="canvas")
    page = seen.page
    page.evaluate("() => (document.getElementById('reopened').hidden = false)")
    for width in (SMALL["width"], 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        tops = [box.bounding_box() for box in page.locator(".plot, #marks, #run").all()]
        assert len(tops) == 5 and all(one and one["height"] > 70 for one in tops), tops
        footer = page.locator(".research").bounding_box()
        assert footer is not None and footer["x"] + footer["width"] <= width and footer["y"] + footer["height"] <= 800
