"""The reports in a real browser without a network: every chart is drawn, nothing fails, no page scrolls sideways."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from undertow.report import write_compare_report, write_fit_report

from .conftest import EVIL, Page, fit, table

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")

# One start of the browser looks at a page in several widths: each is a frame, and what is found in it is put together.
_FRAMES = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">{frames}<pre id="found"></pre>
<script>
const done = (one) => {{
  const root = one.contentDocument.documentElement, [drawn, all] = (root.dataset.charts || "0/0").split("/");
  const failed = JSON.parse(root.dataset.errors || "[]").length;
  return all !== "0" && Number(drawn) + failed >= Number(all);
}};
const hover = (page, place) => {{
  const texts = [];
  const marks = [...place.querySelectorAll(".mark-symbol path, .mark-rule line, .mark-rect path")];
  for (const mark of marks.slice(0, 120)) {{
    const box = mark.getBoundingClientRect(), at = {{bubbles: true, clientX: box.x + 1, clientY: box.y + 1}};
    for (const kind of ["pointerover", "pointermove"]) {{
      mark.dispatchEvent(new page.defaultView.PointerEvent(kind, at));
    }}
    const shown = page.getElementById("vg-tooltip-element");
    if (shown && shown.classList.contains("visible")) texts.push(shown.innerText);
  }}
  return texts;
}};
const read = (one) => {{
  const page = one.contentDocument, root = page.documentElement, places = [...page.querySelectorAll("[data-chart]")];
  const sizes = places.map((p) => [p.dataset.chart, p.querySelector("svg, canvas"), p]);
  return {{
    errors: JSON.parse(root.dataset.errors), charts: root.dataset.charts, scheme: root.dataset.scheme,
    width: root.clientWidth, needed: root.scrollWidth, background: getComputedStyle(page.body).backgroundColor,
    label: getComputedStyle(page.querySelector("[data-chart] .role-axis-label text")).fill,
    drawn: sizes.filter(([, svg]) => svg && svg.getBoundingClientRect().height > 50).map(([name]) => name),
    wide: sizes.filter(([, svg, p]) => svg && svg.getBoundingClientRect().width > p.clientWidth + 1).map(([n]) => n),
    marks: Object.fromEntries(sizes.map(([name, , p]) => [name, p.querySelectorAll(".mark-symbol path").length])),
    hovers: Object.fromEntries(places.map((p) => [p.dataset.chart, hover(page, p)])),
    ran: String(one.contentWindow.evil),
    evil: page.querySelectorAll("#evil").length + page.querySelectorAll("img").length,
  }};
}};
const clock = setInterval(() => {{
  const frames = [...document.querySelectorAll("iframe")];
  if (!frames.every(done)) return;
  clearInterval(clock);
  document.getElementById("found").textContent = JSON.stringify(frames.map(read));
}}, 100);
</script>"""


def look(views, folder, *, dark=False):
    """What the browser finds in each page, (path, width) in ``views``, with every name of a host unknown."""
    texts = [(html.escape(path.read_text(encoding="utf-8")), width) for path, width in views]
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{text}"></iframe>' for text, width in texts)
    wrapper = folder / "frames.html"
    wrapper.write_text(_FRAMES.format(frames=frames), encoding="utf-8")
    assert BROWSER is not None
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--virtual-time-budget=8000",
        "--dump-dom",
        wrapper.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.S)
    assert found, f"the charts were not drawn in time: {done.stdout[-300:]} {done.stderr[-1000:]}"
    return json.loads(html.unescape(found[1]))


def check(one, page):
    """What must hold of a page at any width."""
    names = set(page.charts["specs"])
    assert one["errors"] == []
    assert one["charts"] == f"{len(names)}/{len(names)}"
    assert set(one["drawn"]) == names
    assert one["wide"] == []
    assert one["needed"] <= one["width"], "the page scrolls sideways"
    assert one["evil"] == 0
    assert one["ran"] == "undefined", "text of the table has run"
    for name, texts in one["hovers"].items():
        assert texts, f"nothing is shown where the pointer is on the {name} chart"
        assert not any(re.search("undefined|null|NaN", text) for text in texts), (name, texts)


@pytest.fixture(scope="module")
def broken(written, tmp_path_factory):
    """The report with a chart whose mark there is not."""
    path = tmp_path_factory.mktemp("broken") / "broken.html"
    path.write_text(written.read_text(encoding="utf-8").replace('"mark":{"type":"area"', '"mark":{"type":"aria"'))
    return path


def test_reports_are_drawn_on_a_light_page(written, page, compare_written, compare_page, broken, tmp_path):
    wide, narrow, compared, small, wrong = look(
        [(written, 1280), (written, 390), (compare_written, 1280), (compare_written, 390), (broken, 800)], tmp_path
    )
    for one in (wide, narrow):
        check(one, page)
        assert one["marks"]["gains"] == one["marks"]["stability"] == 30
        assert any(EVIL in text for text in one["hovers"]["gains"])
    for one in (compared, small):
        check(one, compare_page)
        assert one["marks"]["pairs"] == 30
    assert (wide["scheme"], wide["background"], wide["label"]) == ("light", "rgb(255, 255, 255)", "rgb(87, 96, 106)")
    # What goes wrong is recorded, and only the chart that cannot be drawn is missing.
    assert len(wrong["errors"]) == 1
    assert wrong["errors"][0].startswith("circle: ")
    assert set(page.charts["specs"]) - set(wrong["drawn"]) == {"circle"}


@pytest.mark.long
def test_reports_are_drawn_on_a_dark_page(written, page, compare_written, compare_page, tmp_path):
    one, other = look([(written, 1280), (compare_written, 390)], tmp_path, dark=True)
    check(one, page)
    check(other, compare_page)
    for found in (one, other):
        assert (found["scheme"], found["background"], found["label"]) == (
            "dark",
            "rgb(20, 24, 28)",
            "rgb(163, 172, 181)",
        )


COMPARED = ("alone", "step", "mixedlm", "signed", "default")
# Names that a page could take for code, that turn the writing around, or that are long.
ODD = (
    "<script>window.evil = 1</script>",
    "</script><script>window.evil = 2</script>",
    "\"'><img id=evil src=http://evil.example/x.png onerror='window.evil = 3'>",
    "\u202e\u2067drow\u200f \u2066x",
    "${window.evil = 4} {{ 7 * 7 }} {% raw %} \\u003c datum['x'] @keyframes",
    "n" * 10_000,
)


@pytest.mark.long
@pytest.mark.parametrize("dark", [False, True])
def test_odd_names_do_nothing_and_layout_holds(dark, compared, tmp_path):
    names = [*ODD, *(f"task {i}" for i in range(len(ODD), 30))]
    plain = table(30, names=names)
    counted = []
    for which in range(len(ODD)):
        raw = replace(
            plain, feature_names=(ODD[which], "x"), task=ODD[which - 1], target=ODD[which - 2], notes=(ODD[which - 3],)
        )
        asked = fit(raw) | {
            "name": ODD[which],
            "command": f"undertow fit {ODD[which - 1]}",
            "settings": {"a": ODD[which]},
        }
        first, second = tmp_path / f"fit-{which}.html", tmp_path / f"compare-{which}.html"
        write_fit_report(first, **asked)
        comparison = replace(compared["comparison"], task_ids=raw.ids, notes=dict.fromkeys(COMPARED, ODD[which]))
        same = {key: asked[key] for key in ("name", "raw", "command", "settings")}
        standard = raw.standardized(4.0, target=True)[1]
        write_compare_report(second, **same, standard=standard, comparison=comparison)
        counted += [(first, 1280), (first, 390), (second, 1280), (second, 390)]
    for start in range(0, len(counted), 4):
        for (path, _), one in zip(
            counted[start : start + 4], look(counted[start : start + 4], tmp_path, dark=dark), strict=True
        ):
            check(one, Page(path.read_text(encoding="utf-8")))
