"""The explorer page at work, in a real browser: Chromium without a window."""

import importlib.util
import io
import os
import re
import shutil
import time

import numpy as np
import pytest
from matplotlib import image
from test_page import made, shown

from dncx import explore
from dncx.explore import decoding
from dncx.explore.record import Trace
from dncx.tasks.base import Words

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if not CHROMIUM or not importlib.util.find_spec("playwright"):
    missing = (
        "playwright; make test installs it" if CHROMIUM else "chromium; apt-get install chromium"
    )
    if "DNCX_BROWSER_TESTS" in os.environ:  # as .ci/run sets it
        raise RuntimeError(f"the explorer's tests need {missing}")
    pytest.skip(f"NOT RUN: no {missing}", allow_module_level=True)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-sync",
    "--disable-component-update",
]
pytestmark = pytest.mark.second_step
HOSTILE = "</script><img src=x onerror=window.hacked=1>{{blob}}"


@pytest.fixture(scope="module")
def trace():
    """Two episodes of memory reuse, by the model that ships."""
    return explore.trace_run("memory-reuse", num_episodes=2, seed=1)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def open_page(browser, tmp_path_factory):
    """open_page(trace) -> a page that shows it; errors are in `page.said`."""

    def open_(trace, compared=None, **context):
        path = tmp_path_factory.mktemp("page") / "memory.html"
        explore.page(trace, path, compared=compared)
        size = context.pop("viewport", {"width": 1280, "height": 800})
        tab = browser.new_context(viewport=size, **context).new_page()
        tab.set_default_timeout(120_000)  # ms; a busy machine draws slowly
        tab.said, tab.requests = [], []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto(path.as_uri())
        until(tab, "window.dncx !== undefined")
        return tab

    return open_


@pytest.fixture(scope="module")
def reuse_tab(open_page, trace):
    return open_page(trace)


@pytest.fixture
def tab(reuse_tab):
    """The page of `trace` as it is when opened."""
    reuse_tab.evaluate(
        "dncx.clear(); dncx.set({recording: 0, compare: 'none', step: 0, slot: null});"
        "document.activeElement.blur(); scrollTo(0, 0); dncx.draw()"
    )
    return reuse_tab


PIXELS = """() => Object.fromEntries(dncx.views.flatMap((view, column) => view.panels.map((panel) =>
  [`${column} ${panel.id}`, panel.canvas.toDataURL()])))"""
# A point of a panel, in its own pixels: of a step and a row, or where its chosen slot is.
CELL = """([id, step, row]) => {
  const panel = dncx.views[0].panels.find((one) => one.id === id);
  return [panel.x(step + 0.5), ((row + 0.5) * panel.tall) / panel.table.rows];
}"""


def click(tab, panel, step, row, act="click"):
    x, y = tab.evaluate(CELL, [panel, step, row])
    place = tab.locator(f"canvas[data-panel={panel}]").first
    getattr(place, act)(position={"x": x, "y": y})


def until(tab, condition):
    """Waits; playwright's own way would evaluate text in the page, which the page forbids."""
    for _ in range(2400):
        if tab.evaluate(condition):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}; {tab.said}")


def settle(tab):
    tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def state(tab):
    settle(tab)
    return tab.evaluate("dncx.state")


def text_of(tab, selector):
    settle(tab)
    return tab.locator(selector).first.text_content()


def save(tab, button):
    with tab.expect_download() as download:
        tab.click(button)
    return download.value.path().read_bytes()


def test_it_loads_alone(reuse_tab):
    assert reuse_tab.said == []
    assert [url for url in reuse_tab.requests if not url.startswith("data:")] == [reuse_tab.url]
    assert reuse_tab.evaluate("fetch('https://example.org').catch(() => 'refused')") == "refused"
    reuse_tab.said.clear()  # the browser says that it refused


def test_its_numbers_are_those_of_the_trace(tab, trace):
    for number, episode in enumerate(trace.episodes):
        for name, expected in shown(episode).items():
            found, scale = tab.evaluate(
                "([i, name]) => [[...dncx.recordings[i].numbers(name)],"
                " dncx.recordings[i].arrays[name].scale]",
                [number, name],
            )
            error = np.abs(np.reshape(found, expected.shape) - expected).max()
            assert error <= 0.51 * scale, name


def test_its_chains_are_those_of_the_links(tab, trace):
    successors = decoding.successors(trace[0])[:, 0]
    for step in range(0, 110, 7):
        found = tab.evaluate("(step) => dncx.recording.chainsAt(step, 0)", step)
        assert found == decoding.chains(successors[step])


def test_keys_move_every_panel(tab):
    tab.evaluate("dncx.set({step: 4, slot: 0})")
    settle(tab)
    before = tab.evaluate(PIXELS)
    tab.keyboard.press("ArrowRight")
    assert state(tab)["step"] == 5
    after = tab.evaluate(PIXELS)
    assert len(after) > 12
    assert [name for name in after if after[name] == before[name]] == []
    assert "step 5 (0–109)" in text_of(tab, "#where")
    for key, step in {"Shift+ArrowRight": 15, "Shift+ArrowLeft": 5, "End": 109, "Home": 0}.items():
        tab.keyboard.press(key)
        assert state(tab)["step"] == step
    for key, slot in {"ArrowDown": 1, "ArrowUp": 0, "Escape": None}.items():
        tab.keyboard.press(key)
        assert state(tab)["slot"] == slot
    tab.keyboard.press("?")
    assert tab.locator("#help").is_visible()
    tab.keyboard.press("Escape")
    assert not tab.locator("#help").is_visible()


def test_it_begins_where_the_first_answer_is(open_page, trace):
    tab = open_page(trace)
    step = int(np.flatnonzero(trace[0].mask)[0])
    slots = [read.slot for read in decoding.reads(trace[0]) if read.step == step]
    assert (state(tab)["step"], state(tab)["slot"]) == (step, slots[0] if slots else None)
    assert text_of(tab, "#where") == f"step {step} (0–109)"
    tab.context.close()


def test_held_keys_and_those_of_fields(tab):
    for key in (" ", "?"):
        tab.evaluate(
            "(key) => document.body.dispatchEvent("
            "new KeyboardEvent('keydown', {key, repeat: true, bubbles: true}))",
            key,
        )
    assert tab.get_attribute("#play", "aria-label") == "Play"
    assert not tab.locator("#help").is_visible()
    tab.focus(".scroll")
    tab.keyboard.press("ArrowDown")
    assert state(tab)["slot"] is None
    until(tab, "document.querySelector('.scroll').scrollTop > 0")
    tab.select_option("#compare", "step")
    tab.fill("#pinned-step", "50")
    tab.fill("#pinned-step", "")
    assert state(tab)["pinned"] == 50
    tab.wait_for_timeout(50)  # what was drawn meanwhile leaves the field alone
    assert tab.input_value("#pinned-step") == ""
    tab.focus("#step")
    assert tab.input_value("#pinned-step") == "50"


def test_keys_on_the_slider_and_in_a_list(tab):
    tab.focus("#step")
    tab.keyboard.press("Shift+ArrowRight")
    assert state(tab)["step"] == 10
    tab.focus("#speed")
    tab.keyboard.press("Home")
    assert state(tab)["step"] == 10


def test_a_click_chooses_slot_and_step(tab):
    before = tab.evaluate(PIXELS)
    click(tab, "read-0", 33, 7)
    chosen = state(tab)
    assert (chosen["step"], chosen["slot"]) == (33, 7)
    after = tab.evaluate(PIXELS)
    assert {name for name in after if after[name] == before[name]} <= {"0 chain"}  # none here
    tab.locator("canvas[data-panel=memory]").click(position={"x": 160, "y": 18 + 18 * 2.5})
    assert state(tab)["slot"] == 2
    tab.locator("tbody tr").nth(20).click()
    assert state(tab)["step"] == 20


def test_a_click_in_chain_and_links(tab):
    step = tab.evaluate(
        "dncx.recording.writes.map((one) => one.step).find((step) =>"
        " dncx.recording.chainsAt(step, 0).length)"
    )
    tab.evaluate("(step) => dncx.set({step})", step)
    settle(tab)
    panel = "dncx.views[0].panels.find((one) => one.id === 'chain')"
    box = tab.evaluate(f"{panel}.boxes()[1]")
    tab.locator("canvas[data-panel=chain]").click(position={"x": box["x"] + 5, "y": box["y"] + 5})
    assert state(tab)["slot"] == box["slot"]
    tab.locator("canvas[data-panel=link]").click(position={"x": 80, "y": 28 * 4.5})
    assert state(tab)["slot"] == 4


def test_dragging_runs_through_the_steps(tab):
    canvas = tab.locator("canvas[data-panel=usage]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + 80, box["y"] + 30
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 300, y, steps=4)
    tab.mouse.up()
    dragged = state(tab)
    assert dragged["step"] > 20
    assert dragged["slot"] is None
    tab.mouse.move(x + 100, y, steps=2)  # no longer pressed
    assert state(tab)["step"] == dragged["step"]


def test_dragging_goes_on_outside_a_thin_strip(tab):
    canvas = tab.locator("canvas[data-panel=mask]")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y = box["x"] + 80, box["y"] + 3
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x + 300, y - 60, steps=4)
    assert state(tab)["step"] > 20
    tab.mouse.move(x - 200, y - 60)
    tab.mouse.up()
    assert (state(tab)["step"], state(tab)["slot"]) == (0, None)


def test_the_story_of_a_slot(tab, trace):
    """Every write, end and read of the decoding, each at its step, and nothing else."""
    episode = trace[0]
    for slot in range(10):
        tab.evaluate("(slot) => dncx.set({slot})", slot)
        settle(tab)
        found = tab.locator(".story li:not(.hint)").all_text_contents()
        lives = [life for life in decoding.lifetimes(episode) if life.slot == slot]
        reads = [read for read in decoding.reads(episode) if read.slot == slot]
        written = [line for line in found if "written at" in line]
        assert len(written) == len(lives)
        for life, line in zip(lives, written, strict=True):
            item = decoding.item(episode, life.written)
            said = f"written at step {life.written}"
            shown_then = f"{said}, when {item} was shown" if item else said
            assert line.removeprefix("over") == shown_then
        freed = [f"freed at step {life.ended}" for life in lives if life.end == "freed"]
        assert [line for line in found if line.startswith("freed")] == freed
        assert [line for line in found if line.startswith("read")] == [
            f"read at step {read.step} by {read.way}" for read in reads
        ]
        kept = [life for life in lives if life.end == "kept"]
        assert len(found) == len(lives) + len(freed) + len(reads) + len(kept)
    tab.evaluate("dncx.set({slot: 0})")
    settle(tab)
    line = tab.locator(".story button").nth(1)
    step = int(re.search(r"step (\d+)", line.text_content())[1])
    line.click()
    assert state(tab)["step"] == step


def test_the_story_rolls_with_the_steps(open_page):
    """The last event up to the chosen step can be seen, however many there are."""
    weights = np.zeros((40, 1, 6), np.float32)
    weights[:, 0, 2] = 1
    tab = open_page(Trace((made(40, write_weights=weights),)))
    tab.evaluate("dncx.set({slot: 2})")
    settle(tab)
    assert tab.evaluate(
        "(box => box.scrollHeight > 2 * box.clientHeight)(document.querySelector('.story'))"
    )
    for step in (39, 20, 0):
        tab.evaluate("(step) => dncx.set({step})", step)
        settle(tab)
        shown = tab.evaluate(
            """() => { const list = document.querySelector('.story').getBoundingClientRect();
            const now = document.querySelector('.story [aria-current]').getBoundingClientRect();
            return list.top <= now.top + 1 && now.bottom <= list.bottom + 1; }"""
        )
        assert shown, step
    tab.context.close()


def test_the_chosen_slot_stays_in_sight(open_page):
    """Its mark leaves the numbers of a thin row as they are."""
    tab = open_page(Trace((made(12, 128, sharp=True),)), device_scale_factor=2)
    rows = """() => ['write-0', 'usage', 'memory'].map((id) => {
      const { canvas, top = 0, tall } = dncx.views[0].panels.find((one) => one.id === id);
      const [from, to] = [64, 65].map((slot) => 2 * (top + (slot * (tall - top)) / 128));
      const high = Math.max(1, Math.floor(to) - Math.ceil(from));
      const row = canvas.getContext('2d').getImageData(160, Math.ceil(from), 300, high);
      return row.data.join(); })"""
    tab.evaluate("dncx.set({step: 11, slot: null})")
    settle(tab)
    free = tab.evaluate(rows)
    tab.evaluate("dncx.set({slot: 64})")
    settle(tab)
    assert tab.evaluate(rows) == free
    tab.context.close()


def test_usage_is_the_mean_where_there_are_more_slots_than_pixels(open_page):
    usage = np.zeros((12, 256), np.float32)
    usage[:, ::2] = 1
    tab = open_page(Trace((made(12, 256, usage=usage),)))
    found = tab.evaluate(
        """() => { const { table } = dncx.views[0].panels.find((one) => one.id === 'usage');
        const most = pooled({ ...table, mean: false }, 12, 128);
        return [[...pooled(table, 12, 128)], [...most]]; }"""
    )
    np.testing.assert_allclose(found, [[0.5] * 12 * 128, [1.0] * 12 * 128], atol=1e-4)
    tab.context.close()


def test_two_heads_that_write_one_slot_at_once(open_page):
    weights = np.zeros((12, 2, 6), np.float32)
    weights[3, :, 2] = 1
    tab = open_page(Trace((made(writers=2, write_weights=weights),)))
    tab.evaluate("dncx.set({slot: 2})")
    settle(tab)
    told = tab.locator(".story .written").all_text_contents()
    assert [line.partition(",")[0] for line in told] == [
        "written at step 3 (head 0)",
        "overwritten at step 3 (head 1)",
    ]
    assert tab.get_by_label("Links of write").count() == 0
    tab.context.close()


def test_hover_says_what_is_there(tab, trace):
    write = decoding.writes(trace[0])[2]
    click(tab, "write-0", write.step, write.slot, "hover")
    said = text_of(tab, "#tip")
    assert f"write weights {write.weight:.3g} · slot {write.slot} · head 0" in said
    assert f"step {write.step}\nwritten at step {write.step}" in said
    assert decoding.item(trace[0], write.step) in said
    click(tab, "inputs", 3, 2, "hover")
    assert f"channel 2 · step 3\n{trace[0].words.inputs[3]}" in text_of(tab, "#tip")
    tab.mouse.move(2, 2)
    assert tab.locator("#tip").is_hidden()


def test_focus_says_what_is_chosen(tab):
    tab.evaluate("dncx.set({step: 2, slot: 8})")
    tab.keyboard.press("Tab")
    tab.focus("canvas[data-panel=usage]")
    tab.keyboard.press("ArrowRight")
    said = text_of(tab, "#tip")
    assert "usage" in said
    assert "slot 8 · step 3" in said


def test_words_of_a_step(tab, trace):
    words, read = trace[0].words, decoding.reads(trace[0])[2]
    tab.evaluate("(step) => dncx.set({step})", read.step)
    assert words.targets[read.step] in text_of(tab, ".current")
    row = tab.locator("tr[aria-current=step]")
    assert row.locator("th").text_content() == str(read.step)
    said = f"slot {read.slot}, written at step {read.written}, by {read.way}"
    assert said in row.text_content()
    assert f"read {said}" in text_of(tab, "#live")
    assert out_of_sight(tab) == []


# The rows of which the transcript shows a part: their tops and bottoms, and its own.
CUT = """() => { const box = document.querySelector('.scroll');
  const top = box.querySelector('thead th').getBoundingClientRect().bottom;
  const end = box.getBoundingClientRect().bottom;
  const inside = (place, row) => row.top < place - 2 && row.bottom > place + 2;
  return [...box.querySelectorAll('tbody tr')].map((row) => row.getBoundingClientRect())
    .filter((row) => inside(top, row) || inside(end, row))
    .map((row) => [row.top, row.bottom, top, end]); }"""


def out_of_sight(tab):
    """The steps, forwards and backwards, at which the transcript does not show their row, or cuts
    another one."""
    return tab.evaluate(
        f"""() => {{ const cut = {CUT};
        const steps = [...Array(dncx.last + 1).keys()];
        const box = document.querySelector('.scroll');
        return [...steps, ...steps.reverse()].filter((step) => {{ dncx.set({{step}}); dncx.draw();
          const row = box.querySelector('tr[aria-current]').getBoundingClientRect();
          const head = box.querySelector('thead th').getBoundingClientRect();
          return cut().length || row.top < head.bottom - 1 ||
            row.bottom > box.getBoundingClientRect().bottom + 1; }}); }}"""
    )


@pytest.fixture(scope="module")
def wordy(open_page):
    """A page with long words of a step, and four reads each, at some width."""
    link = np.zeros((12, 1, 6, 6), np.float32)
    reads = np.zeros((12, 4, 6), np.float32)
    reads[:, :, 2] = 1
    long = tuple(f"(High Street Kensington, Circle-{n}, Notting Hill Gate)" for n in range(12))
    made_of = {"readers": 4, "sharp": True, "link": link, "read_weights": reads}
    episode = made(**made_of, words=Words(long, long, ("",) * 12))
    return lambda width: open_page(
        Trace((episode, episode)), viewport={"width": width, "height": 800}
    )


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("compare", ["none", "step", "1"])
def test_the_transcript_cuts_no_row_and_hides_no_column(wordy, width, compare):
    tab = wordy(width)
    tab.select_option("#compare", compare)
    settle(tab)
    assert out_of_sight(tab) == []
    wide, room, page = tab.evaluate(
        "(box => [box.scrollWidth, box.clientWidth, document.documentElement.scrollWidth])"
        "(document.querySelector('.scroll'))"
    )
    assert wide <= room
    assert page == width
    tab.evaluate("document.querySelector('.scroll').scrollTop = 130")  # as a finger does
    tab.wait_for_timeout(200)
    assert tab.evaluate(CUT) == []
    tab.context.close()


def test_play_and_pause(tab):
    tab.select_option("#speed", "20")
    tab.click("#play")
    assert tab.get_attribute("#play", "aria-label") == "Pause"
    until(tab, "dncx.state.step > 3")
    tab.keyboard.press("Escape")
    step = state(tab)["step"]
    assert tab.get_attribute("#play", "aria-label") == "Play"
    tab.wait_for_timeout(150)
    assert state(tab)["step"] == step
    for button, expected in {"next": step + 1, "previous": step, "last": 109, "first": 0}.items():
        tab.click(f"#{button}")
        assert state(tab)["step"] == expected


def test_another_episode(tab, trace):
    tab.select_option("#recording", "1")
    assert trace[1].words.inputs[0] in text_of(tab, ".current")
    assert "episode 1" in text_of(tab, "h2")


def test_two_recordings_beside_each_other(tab, trace):
    tab.select_option("#compare", "1")
    tab.keyboard.press("Tab")
    tab.evaluate("document.activeElement.blur()")
    assert tab.locator("article").count() == 2
    before = tab.evaluate(PIXELS)
    tab.keyboard.press("ArrowRight")
    settle(tab)
    after = tab.evaluate(PIXELS)
    moved = [name for name in after if after[name] != before[name]]
    assert {name[0] for name in moved} == {"0", "1"}
    assert trace[1].words.inputs[1] in tab.locator(".current").nth(1).text_content()


def test_sections_of_two_recordings_begin_at_one_height(tab):
    tab.select_option("#compare", "1")
    tab.evaluate("dncx.set({slot: 2, step: 30})")
    settle(tab)
    tops = (
        "(view) => [...view.root.querySelectorAll('h3')].map((h) => h.getBoundingClientRect().top)"
    )
    first, second = tab.evaluate(f"dncx.views.map({tops})")
    assert first == second
    assert len(first) == 5
    tab.select_option("#compare", "step")
    settle(tab)
    heights = tab.evaluate(
        "[...document.querySelectorAll('h3')].filter((one) => /^At step/.test(one.textContent))"
        ".map((one) => one.getBoundingClientRect().top)"
    )
    assert heights[0] == heights[1]


def test_recordings_of_two_sizes_beside_each_other(open_page):
    small = Trace((made(),), "small")
    large = made(20, 9, memory=made(20, 9).memory * 2, outputs=made(20).outputs * 3)
    tab = open_page(small, Trace((large,), "large"))
    keys = "(view) => [...view.root.querySelectorAll('.key')].map((key) => key.textContent)"
    alone = tab.evaluate(f"({keys})(dncx.views[0])")
    tab.select_option("#compare", "1")
    tab.evaluate("dncx.set({step: 15, slot: 8})")
    assert (state(tab)["step"], state(tab)["slot"]) == (15, 8)
    first, second = tab.evaluate(f"dncx.views.map({keys})")
    assert first == second != alone
    titles = tab.locator("h3:has-text('At step')").all_text_contents()
    assert titles == ["At step 15 (ended at step 11)", "At step 15"]
    assert text_of(tab, "#live").startswith("Step 11: ")
    tab.select_option("#compare", "none")
    assert (state(tab)["step"], state(tab)["slot"]) == (11, None)
    assert tab.said == []
    tab.context.close()


def test_every_heat_map_has_a_key(tab, trace):
    without = tab.evaluate(
        "dncx.views[0].panels.filter((panel) => panel.title && !panel.key).map(({id}) => id)"
    )
    assert without == ["modes"]
    most = f"{np.abs(trace[0].memory).max():.3g}"
    assert tab.locator("figure:has([data-panel=memory]) .key").text_content() == f"−{most}{most}"


def test_what_is_of_one_step_can_be_seen_to_its_end(open_page):
    episode = made(40, 128, 5, 4, link=np.zeros((40, 1, 128, 128), np.float32))
    tab = open_page(Trace((episode,)), viewport={"width": 1440, "height": 900})
    end = "[...document.querySelectorAll('.at-step canvas')].at(-1).getBoundingClientRect().bottom"
    below = tab.evaluate(end) - 900
    assert below > 0
    for further in (30, 90):  # it rolls with the page, then stays
        tab.evaluate("(top) => scrollTo(0, top)", below + further)
        settle(tab)
        assert 870 < tab.evaluate(end) <= 900
    tab.context.close()


def test_two_steps_beside_each_other(tab, trace):
    tab.evaluate("dncx.set({step: 7})")
    tab.select_option("#compare", "step")
    assert state(tab)["pinned"] == 6  # it begins with two different steps
    tab.fill("#pinned-step", "50")
    settle(tab)
    assert tab.locator("h3:has-text('At step')").all_text_contents() == ["At step 7", "At step 50"]
    found, scale = tab.evaluate(
        "[[...dncx.views[1].panels.find((one) => one.id === 'difference').contents()],"
        " dncx.recording.arrays.memory.scale]"
    )
    expected = trace[0].memory[7] - trace[0].memory[50]
    assert np.abs(np.reshape(found, expected.shape) - expected).max() <= 1.01 * scale
    key = tab.locator("figure:has([data-panel=difference]) .key canvas").get_attribute("aria-label")
    assert abs(float(key.rpartition(" ")[2]) - np.abs(expected).max()) < 2 * scale


def test_a_picture_has_no_rows_that_are_out_of_sight(tab):
    above = """async (top) => {
      const box = document.querySelector('.scroll');
      box.scrollTop = top;
      await new Promise(requestAnimationFrame);
      const views = document.getElementById('views');
      const whole = picture(views, 1);
      const tall = 24 + box.getBoundingClientRect().top - views.getBoundingClientRect().top;
      const part = newCanvas(whole.width, Math.floor(tall));
      part.getContext('2d').drawImage(whole, 0, 0);
      return [box.scrollTop, part.toDataURL()];
    }"""
    (_, still), (top, scrolled) = tab.evaluate(above, 0), tab.evaluate(above, 1000)
    assert top > 900
    assert scrolled == still


def test_save_picture(tab):
    tab.evaluate("dncx.set({slot: 3, step: 30})")
    settle(tab)
    picture = image.imread(io.BytesIO(save(tab, "#save-picture")))
    tall, wide, _ = picture.shape
    assert (wide > 2000, tall > 1500) == (True, True)
    assert len(np.unique(picture[::5, ::5].reshape(-1, picture.shape[2]), axis=0)) > 100
    behind = np.array([0xFB, 0xE9, 0xF0]) / 255  # the chosen step, in the transcript at least
    assert (np.abs(picture[..., :3] - behind).max(axis=-1) < 0.004).sum() > 10_000


def test_it_explains_itself(tab):
    """To a newcomer: what this is, where the exact numbers are, and what the outputs are."""
    assert "memory of slots" in tab.locator(".introduction").inner_text()
    assert "trace.npz" in tab.locator("p.about").inner_text()
    captions = tab.locator("figcaption").all_inner_texts()
    assert any(caption.startswith("Outputs (logits)") for caption in captions)
    assert any(caption.startswith("Counts in the loss") for caption in captions)


def test_outputs_of_a_task_that_it_does_not_know(open_page):
    tab = open_page(Trace((made(),), "own", {"task": {"name": "mine", "size": 3, "file": None}}))
    captions = tab.locator("figcaption").all_inner_texts()
    assert [caption.split()[:2] for caption in captions if "Outputs" in caption] == [
        ["Outputs", "−3.97"]
    ]
    assert text_of(tab, "#task") == "Task: mine (size 3)"
    tab.context.close()


def test_names_for_those_who_listen(tab):
    unnamed = tab.evaluate(
        "[...document.querySelectorAll('button, select, input, canvas, [role=region]')].filter("
        "(one) => !(one.ariaLabel || one.textContent.trim() && one.matches('button') ||"
        " one.labels?.length)).map((one) => one.outerHTML)"
    )
    assert unnamed == []
    assert tab.locator("canvas:not([role=img])").count() == 0
    undescribed = tab.locator("canvas[data-panel]:not([aria-describedby=tip])")
    assert undescribed.count() == 0


def test_themes(tab):
    def light():
        seen = image.imread(io.BytesIO(tab.screenshot()))[..., :3]
        assert seen.std() > 0.05
        return seen.mean()

    assert light() > 0.7
    tab.click("#theme")
    assert light() < 0.3
    tab.click("#theme")
    assert light() > 0.7


def test_a_small_screen_and_touch(open_page, trace):
    size = {"width": 390, "height": 844}
    tab = open_page(trace, viewport=size, has_touch=True, color_scheme="dark")
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.locator("#recording").bounding_box()["width"] > 240  # room for its episode's name
    click(tab, "usage", 61, 3, "tap")
    assert (state(tab)["step"], state(tab)["slot"]) == (61, 3)
    assert out_of_sight(tab) == []
    tab.evaluate(
        "document.querySelectorAll('tbody tr:nth-child(odd)').forEach(tall => {"
        "tall.style.height = '150px'; }); dncx.resize()"
    )
    assert out_of_sight(tab) == []
    tab.select_option("#compare", "1")
    settle(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    session = tab.context.new_cdp_session(tab)
    box = tab.locator("canvas[data-panel=usage]").first.bounding_box()
    touch = {"x": box["x"] + 100, "y": box["y"] + 20}
    session.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [touch]})
    for distance in (20, 60, 120):
        moved = {"x": touch["x"] + distance, "y": touch["y"]}
        session.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [moved]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert state(tab)["step"] in range(55, 60)
    assert tab.said == []
    tab.context.close()


def test_a_frame_in_a_notebook(browser):
    tab = browser.new_page()
    tab.set_content(f"<h1>a notebook</h1>{Trace((made(),))._repr_html_()}")
    frame = tab.frame_locator("iframe")
    frame.locator("article").wait_for()
    frame.locator("#next").click()
    assert frame.locator("#where").text_content() in ("step 0 (0–11)", "step 1 (0–11)")
    tab.close()


def test_hostile_words(open_page):
    steps = 12
    words = Words(*[(HOSTILE,) * steps] * 3)
    tab = open_page(Trace((made(words=words),), HOSTILE, {"task": {"name": HOSTILE}}))
    tab.evaluate("dncx.set({slot: 1, step: 3})")
    settle(tab)
    assert HOSTILE in text_of(tab, "h1")
    assert HOSTILE in text_of(tab, ".current")
    assert tab.evaluate("[window.hacked, document.images.length]") == [None, 0]
    assert tab.said == []
    tab.context.close()


def test_without_words_targets_and_links_and_with_two_write_heads(open_page):
    links = np.zeros((12, 2, 6, 6), np.float32)
    links[:, 1, 3, 2] = 1
    full = made(writers=2, link=links, precedence_weights=made(writers=2).write_weights)
    tab = open_page(Trace((made(),)), Trace((full,), "two writers"))
    assert tab.locator("canvas[data-panel=link]").count() == 0
    assert "no links" in text_of(tab, ".note")
    assert re.search(r"input 0\.\d+ 0\.\d+", text_of(tab, ".current"))
    tab.select_option("#recording", "1")
    settle(tab)
    chain = "dncx.views[0].panels.find((one) => one.id === 'chain').boxes().map((box) => box.slot)"
    assert tab.evaluate(chain) == []
    tab.get_by_label("Links of write").select_option("1")
    settle(tab)
    assert tab.evaluate(chain) == [2, 3]
    assert tab.said == []
    tab.context.close()


def test_a_model_without_links(open_page):
    none, modes = np.zeros((12, 2, 0, 6), np.float32), np.ones((12, 2, 1), np.float32)
    episode = made(forward_weights=none, backward_weights=none, read_mode=modes)
    tab = open_page(Trace((episode,), "by content"))
    assert "no links" in text_of(tab, ".note")
    for panel in ("link", "chain", "modes"):
        assert tab.locator(f"canvas[data-panel={panel}]").count() == 0
    assert tab.locator("canvas[data-panel=gates]").count() == 1
    assert tab.said == []
    tab.context.close()


def test_a_long_sequence_of_a_large_memory(open_page, capsys):
    steps, slots = 1000, 256
    link = np.zeros((steps, 1, slots, slots), np.float32)
    for step in range(1, steps):  # rings of slots, one after the other
        link[step] = link[step - 1]
        link[step, 0, step % slots] = np.eye(slots, dtype=np.float32)[(step - 1) % slots]
    episode = made(steps, slots, 32, 4, sharp=True, link=link)
    tab = open_page(Trace((episode,), "long"))
    assert "The link matrix is left out" in text_of(tab, ".note")
    assert tab.locator("canvas[data-panel=chain]").count() == 1
    drawn = tab.evaluate("performance.getEntriesByName('drawn')[0].startTime")
    began = time.perf_counter()
    tab.evaluate(
        """async () => { for (let step = 100; step < 150; step++) {
        dncx.go(step); await new Promise(requestAnimationFrame); } }"""
    )
    mean = (time.perf_counter() - began) / 50 * 1000
    script = tab.evaluate(
        """() => { const start = performance.now();
        for (let step = 100; step < 150; step++) { dncx.go(step); dncx.draw(); }
        return (performance.now() - start) / 50; }"""
    )
    assert state(tab)["step"] == 149
    with capsys.disabled():
        print(
            f"\n1,000 steps, 256 slots: first drawn after {drawn:.0f} ms; a step of scrubbing "
            f"{mean:.1f} ms, {script:.1f} ms of them in scripts"
        )
    tab.context.close()
