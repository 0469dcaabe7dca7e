"""The page in a real browser: sliders move the answer, faults show, uploads answer, nothing leaves the machine."""

import re
import shutil
import socket
import threading
import time
from urllib.parse import urlsplit

import pandas as pd
import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
playwright = pytest.importorskip("playwright.sync_api", reason="no Playwright is installed to drive a browser")
uvicorn = pytest.importorskip("uvicorn", reason="the service needs the extra 'serve'")

from posterion.serving import create_app  # noqa: E402
from posterion.tabular.served import ServedTable  # noqa: E402
from posterion.tabular.training import fit_table  # noqa: E402
from tests.serving.fakes import FakeClassifier, FakeRegressor, probability, training  # noqa: E402
from tests.tabular.admissions import admissions  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (apt-get install chromium)"),
]


class Running:
    """A service in a thread of its own, on a free port."""

    def __init__(self, model):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        config = uvicorn.Config(create_app(model), host="127.0.0.1", port=self.port, log_level="error")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        until = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < until, "the service did not start"
            time.sleep(0.05)

    def stop(self):
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as engine:
        found = engine.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def table_model():
    """What `posterion fit` makes of a table with every kind of column."""
    return fit_table(admissions(), "outcome", leave_out=["days"], random_seed=0)[0]


@pytest.fixture(scope="module")
def services(table_model):
    running = {
        "classification": Running(FakeClassifier()),
        "regression": Running(FakeRegressor()),
        "table": Running(ServedTable(table_model, "Admissions")),
    }
    yield running
    for one in running.values():
        one.stop()


@pytest.fixture
def visit(browser, services):
    """Open the page; at the end no script failed, nothing was complained of, and no request went elsewhere."""
    complaints, hosts, pages = [], set(), []

    def open_page(task="classification", **options):
        page = browser.new_page(**options)
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type in ("error", "warning") else 0
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname or urlsplit(request.url).scheme))
        page.goto(f"http://127.0.0.1:{services[task].port}/")
        page.wait_for_function("() => document.querySelector('#sentence').textContent.length > 5", timeout=30_000)
        pages.append(page)
        return page

    open_page.complaints = complaints
    yield open_page
    for page in pages:
        page.close()
    assert complaints == []
    assert hosts <= {"127.0.0.1", "blob", "data"}


def said(page, waited_for=None):
    if waited_for is not None:
        page.wait_for_function(
            "t => document.querySelector('#sentence').textContent.includes(t)", arg=waited_for, timeout=20_000
        )
    return page.text_content("#sentence").replace("\xa0", " ")


def expected(**row):
    frame = training(1).assign(**({"age": 55, "size": 1.8, "smoker": False, "ward": "north"} | row))
    p = probability(frame)[0]
    return f"{'malignant' if p >= 0.5 else 'benign'} with probability {100 * max(p, 1 - p):.0f}\xa0%"


def test_sliders_and_fields_move_the_answer(visit):
    page = visit()
    said(page, expected())
    page.locator("input[type=range][aria-label='age, slider']").fill("70")
    said(page, expected(age=70))
    assert page.get_by_label("age", exact=True).input_value() == "70"
    page.get_by_label("size", exact=True).fill("1,3")  # a comma for a point
    said(page, expected(age=70, size=1.3))
    page.get_by_label("smoker").check()
    page.get_by_label("ward").select_option("east")
    said(page, expected(age=70, size=1.3, smoker=True, ward="east"))
    page.get_by_role("button", name="Back to a typical row").click()
    said(page, expected())


def test_the_keyboard_alone_is_enough(visit):
    page = visit()
    slider = page.locator("input[type=range][aria-label='age, slider']")
    for _ in range(12):  # from the top of the page by tabulator
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == "age, slider":
            break
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert slider.input_value() == "60"
    said(page, expected(age=60))


def test_faults_are_shown_beside_their_field_and_go_away(visit):
    page = visit()
    field = page.get_by_label("size", exact=True)
    field.fill("big")
    fault = page.locator(".field[data-name=size] .fault")
    assert fault.inner_text().startswith("Type a number, usually 0.1 to 6")
    assert field.get_attribute("aria-invalid") == "true"
    assert field.get_attribute("aria-describedby") == fault.get_attribute("id")
    field.fill("2")
    said(page, expected(size=2.0))
    assert not fault.is_visible()


def test_a_click_on_the_surface_moves_the_row(visit):
    page = visit()
    page.wait_for_function("() => document.querySelector('#surface').getAttribute('aria-label') !== 'Being computed'")
    before = page.get_by_label("age", exact=True).input_value()
    box = page.locator("#surface").bounding_box()
    page.mouse.click(box["x"] + 0.8 * box["width"], box["y"] + 0.3 * box["height"])
    page.wait_for_function("v => document.querySelector('#input-0').value !== v", arg=before)
    assert float(page.get_by_label("age", exact=True).input_value()) > 65
    assert "Probability of malignant over age and size" in page.locator("#surface").get_attribute("aria-label")
    page.locator("#show").select_option("epistemic")
    assert "Ignorance" in page.text_content("#surface-hint")


def test_the_surface_is_drawn(visit):
    page = visit()
    page.wait_for_function("() => document.querySelector('#surface').getAttribute('aria-label') !== 'Being computed'")
    pixels = """(places) => { const c = document.querySelector('#surface'), { width: w, height: h } = c;
      const all = c.getContext('2d').getImageData(0, 0, w, h).data;
      const at = ([x, y]) => 4 * (Math.round(h * y) * w + Math.round(w * x));
      return places.map((place) => [...all.slice(at(place), at(place) + 3)]); }"""
    low, high = page.evaluate(pixels, [[0.14, 0.8], [0.8, 0.1]])
    assert low[2] > low[0] + 50  # young and small: blue
    assert high[0] > high[2] + 50  # old and large: orange


def test_similar_rows_are_shown_with_their_outcomes(visit):
    page = visit()
    page.wait_for_selector("#near-table tbody tr")
    assert page.locator("#near-table tbody tr").count() == 8
    assert re.search(r"Of the 8 nearest, \d (was|were) (benign|malignant)", page.text_content("#near-sentence"))


def test_an_upload_of_ten_thousand_rows_answers(visit, tmp_path):
    page = visit()
    table = tmp_path / "patients.csv"
    training(10_000).drop(columns="finding").to_csv(table, index=False)
    page.locator("#file").set_input_files(table)
    page.locator("#refer").fill("20")
    page.get_by_role("button", name="Predict").click()
    page.wait_for_function(
        "() => document.querySelector('#upload-status').textContent.includes('predicted')", timeout=60_000
    )
    assert page.text_content("#upload-status") == "10,000 rows predicted, 2,000 to refer."
    assert page.locator("#referred-table tbody tr").count() == 10
    with page.expect_download() as download:
        page.get_by_text("Rows to refer").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 2_001 and all(line.endswith(",yes") for line in lines[1:])


def test_faults_of_an_upload_are_shown(visit, tmp_path):
    page = visit()
    table = tmp_path / "patients.csv"
    table.write_text("age,size,smoker,ward\n50,<b>big</b>,0,east\n")
    page.locator("#file").set_input_files(table)
    page.get_by_role("button", name="Predict").click()
    page.wait_for_selector("#upload-trouble:not([hidden])")
    assert page.text_content("#upload-trouble").startswith("Row 1: size: found '<b>big</b>', expected a finite number")
    assert page.locator("#upload-trouble b").count() == 0  # text, never markup
    # The browser itself reports every answer that refuses a request.
    assert all("422" in text for text in visit.complaints)
    visit.complaints.clear()


def test_numbers_have_an_interval_and_missing_values(visit):
    page = visit("regression")
    assert said(page) == "days: 7.3 (90 % interval 5.3 to 9.3)"
    page.get_by_label("size", exact=True).fill("")
    said(page, "5.5")


def test_a_phone_shows_it_without_scrolling_sideways(visit):
    page = visit(viewport={"width": 360, "height": 740}, has_touch=True)
    page.wait_for_selector("#near-table tbody tr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_label("ward").scroll_into_view_if_needed()
    assert page.locator("#sentence").is_visible()
    assert page.locator("#sentence").bounding_box()["y"] < 400  # the answer stays in view


def test_every_control_has_a_name_and_headings_are_in_order(visit):
    page = visit()
    nameless = page.evaluate("""[...document.querySelectorAll('input, select, button, canvas, a[href]')]
      .filter((e) => e.offsetParent && !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))
      .map((e) => e.outerHTML)""")
    assert nameless == []
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert levels[0] == 1 and all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False))
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.locator("#sentence").get_attribute("aria-live") == "polite"


# ---- a model of a table, as `posterion serve` shows it
def start_of(model):
    return {
        c.name: c.categories[0] if c.kind == "category" else False if c.kind == "boolean" else c.middle
        for c in model.schema.columns
    }


def said_of(model, **changes):
    """What the page should say of a row, by the model itself."""
    row = start_of(model) | changes
    if isinstance(row["admitted"], float):
        row["admitted"] = pd.Timestamp("1970-01-01") + pd.to_timedelta(row["admitted"] * 365.25, "D")
    predicted = model.predict(pd.DataFrame([row])).iloc[0]
    p = 1 - predicted["doubt"]
    return f"{predicted['prediction']} with probability {100 * p:.{0 if p < 0.9 else 1}f}\xa0%"


def test_a_table_can_be_asked_by_slider_label_date_and_truth_value(visit, table_model):
    page = visit("table")
    said(page, said_of(table_model))
    page.locator("input[type=range][aria-label='age, slider']").fill("72")
    said(page, said_of(table_model, age=72.0))
    page.get_by_label("ward").select_option("north")
    page.get_by_label("smoker").check()
    page.get_by_label("marker", exact=True).fill("3.4")
    page.get_by_label("admitted", exact=True).fill("2022-03-31")
    changed = {"age": 72.0, "ward": "north", "smoker": True, "marker": 3.4, "admitted": pd.Timestamp("2022-03-31")}
    said(page, said_of(table_model, **changed))
    page.get_by_label("marker", exact=True).fill("")  # not known
    page.get_by_label("ward").select_option("(missing)")
    said(page, said_of(table_model, **(changed | {"marker": None, "ward": None})))
    slider = page.locator("input[type=range][aria-label='admitted, slider']")
    slider.focus()
    page.keyboard.press("End")
    high = next(c.high for c in table_model.schema.columns if c.name == "admitted")
    last = pd.Timestamp("1970-01-01") + pd.to_timedelta(high * 365.25, "D").round("D")
    assert page.get_by_label("admitted", exact=True).input_value() == f"{last:%Y-%m-%d}"


def test_a_table_says_what_is_wrong_and_what_is_strange(visit, table_model):
    page = visit("table")
    page.get_by_label("age", exact=True).fill("old")
    assert page.locator(".field[data-name=age] .fault").inner_text().startswith("Type a number, usually 20 to 89")
    page.get_by_label("age", exact=True).fill("300")
    page.wait_for_selector("#notes li")
    assert "far outside the training rows" in page.text_content("#notes")


def test_a_table_of_ten_thousand_rows_comes_back_with_a_referral_list(visit, tmp_path):
    page = visit("table")
    file = tmp_path / "admissions.csv"
    admissions(10_000, seed=4).to_csv(file, index=False)
    page.locator("#file").set_input_files(file)
    page.get_by_role("button", name="Predict").click()
    page.wait_for_function(
        "() => document.querySelector('#upload-status').textContent.includes('predicted')", timeout=60_000
    )
    assert page.text_content("#upload-status") == "10,000 rows predicted, 1,000 to refer."
    with page.expect_download() as download:
        page.get_by_text("Rows to refer").click()
    referred = pd.read_csv(download.value.path())
    assert len(referred) == 1_000 and set(referred["refer"]) == {"yes"}
    with page.expect_download() as download:
        page.get_by_text("All predictions").click()
    everything = pd.read_csv(download.value.path())
    doubt = everything["aleatoric"] + everything["epistemic"]
    assert doubt[everything["refer"] == "yes"].min() >= doubt[everything["refer"] == "no"].max() - 1e-5


def test_the_tabulator_goes_through_a_table_in_the_order_of_the_page(visit):
    page = visit("table", viewport={"width": 390, "height": 844})
    page.wait_for_selector("#near-table tbody tr")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    places = []
    for _ in range(30):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "() => { const e = document.activeElement; return [e.id || e.getAttribute('aria-label') || e.tagName,"
            " e.closest('.field')?.getBoundingClientRect().top + scrollY || 0]; }"
        )
        places.append(found)
        if found[0] == "send":
            break
    names = [name for name, _ in places]
    assert names[0] == "A" and "reset" in names and names[-1] == "send"
    inside = [top for _, top in places if top]
    assert len(inside) >= 5 and inside == sorted(inside)
    small = page.evaluate("""[...document.querySelectorAll('button, select, input:not([type=file])')]
      .filter((e) => e.offsetParent && e.getBoundingClientRect().height < 24).map((e) => e.outerHTML)""")
    assert small == []  # large enough for a finger (WCAG 2.5.8: 24 px)
