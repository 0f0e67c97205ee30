"""The explorer in a real browser: its numbers are those of the theory, its simulation agrees, its controls work."""

import html
import json
import re
import subprocess

import numpy as np
import pytest

import undertow as ut
from undertow.report import write_explorer
from undertow.report.explorer import explorer_page
from undertow.theory import adapted_loss, equivalent

from .test_browser import BROWSER

LETTERS = ("p", "n_t", "n_v", "n_r", "m", "noise_std", "task_std", "train", "adapt")
SIMULATED = (
    {"p": 12, "n_t": 10, "n_v": 2, "n_r": 8, "m": 2, "noise_std": 1.0, "task_std": 0.7},
    {"p": 8, "n_t": 6, "n_v": 5, "n_r": 8, "m": 12, "noise_std": 0.8, "task_std": 1.5},
)
RATES = (-2.0, -0.5, 0.0, 0.3)

_WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">{frames}<pre id="found"></pre><script>
const settings = {settings}, simulated = {simulated}, rates = {rates};
const numbers = (of) => settings.map((at, i) => {{
  const top = i % 5 ? {{rate: 0, q: 0}} : of.bestTrain(at);
  return {{loss: of.loss(at, at.train, at.adapt), rate: top.rate, q: top.q, adapt: of.bestAdapt(at, top.q)}};
}});
const simulate = (of) => simulated.map((at) => {{
  const one = of.simulation(at, rates, 3);
  for (let i = 0; i < 400; i++) one.step();
  return one.result();
}});
const read = (frame) => {{
  const page = frame.contentDocument, root = page.documentElement, inputs = [...page.querySelectorAll("input")];
  const said = () => page.getElementById("answer").textContent;
  const slider = page.getElementById("slider-m"), before = said();
  slider.value = 40;
  slider.dispatchEvent(new frame.contentWindow.Event("input", {{bubbles: true}}));
  const number = page.getElementById("number-p");
  number.value = -1e9;
  number.dispatchEvent(new frame.contentWindow.Event("change", {{bubbles: true}}));
  return new Promise((done) => setTimeout(() => done({{
    errors: JSON.parse(root.dataset.errors), width: root.clientWidth, needed: root.scrollWidth, before, after: said(),
    unnamed: inputs.filter((one) => !one.labels.length && !one.getAttribute("aria-label")).length,
    inputs: inputs.length, least: page.getElementById("slider-p").value,
    background: frame.contentWindow.getComputedStyle(page.body).backgroundColor,
    curves: [...page.querySelectorAll("path.curve")].filter((one) => one.getBoundingClientRect().height > 20).length,
    points: page.querySelectorAll("circle.point").length, marks: page.querySelectorAll("path.best").length,
    edges: page.querySelectorAll("line.edge").length, drawn: page.getElementById("drawn").textContent,
  }}), 600));
}};
setTimeout(async () => {{
  const frames = [...document.querySelectorAll("iframe")], of = frames[0].contentWindow.undertow;
  const found = {{numbers: numbers(of), simulated: simulate(of), pages: []}};
  for (const frame of frames) found.pages.push(await read(frame));
  document.getElementById("found").textContent = JSON.stringify(found, (key, value) =>
    typeof value === "number" && !Number.isFinite(value) ? String(value) : value);
}}, 500);
</script>"""


def random_settings(n):
    """Settings over the whole range of the sliders."""
    rng = np.random.default_rng(1)
    found = []
    while len(found) < n:
        p, n_t = int(rng.integers(6, 101)), int(rng.integers(1, 101))
        for few in (True, False, True, False, True):
            n_v, m = (rng.integers(1, 6), rng.integers(2, 9)) if few else (rng.integers(1, 61), rng.integers(2, 61))
            train, adapt = np.tan(rng.uniform(-1.5, 1.5)), rng.uniform(-1, 1.5)
            spread = rng.uniform(0, 3, 2)
            values = (p, n_t, int(n_v), int(rng.integers(1, 101)), int(m), *spread, train, adapt)
            found.append(dict(zip(LETTERS, values, strict=True)))
    return found[:n]


def look(settings, simulated, folder, *, dark=False):
    """What a page at two widths computes and shows."""
    text = html.escape(explorer_page())
    frames = "".join(f'<iframe width="{width}" height="900" srcdoc="{text}"></iframe>' for width in (1200, 390))
    wrapper = folder / "explorer.html"
    data = {"settings": json.dumps(settings), "simulated": json.dumps(simulated), "rates": json.dumps(RATES)}
    wrapper.write_text(_WRAPPER.format(frames=frames, **data), encoding="utf-8")
    assert BROWSER is not None
    options = (
        "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync "
        "--disable-component-update --host-resolver-rules=MAP\t*\t~NOTFOUND --virtual-time-budget=6000 --dump-dom"
    )
    command = [BROWSER, *(one.replace("\t", " ") for one in options.split(" "))]
    command += [f"--user-data-dir={folder / 'profile'}", f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    done = subprocess.run([*command, wrapper.as_uri()], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'<pre id="found">(.+?)</pre>', done.stdout, re.S)
    assert found, f"no answer in time: {done.stdout[-300:]} {done.stderr[-1000:]}"
    return json.loads(html.unescape(found[1]))


def theory(at, rate):
    """Q and the loss as a function of it, by the equivalent that the page ports."""
    design = ut.Design(at["m"], at["n_t"], at["n_v"], at["n_r"])
    task2, noise2 = at["task_std"] ** 2, at["noise_std"] ** 2
    q = equivalent.coefficients(at["p"], design, np.array([rate])).distance(0.0, task2, noise2)[0]
    return q, lambda adapt: float(adapted_loss.loss(at["p"], at["n_r"], np.array(adapt), q, task2, noise2))


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome is installed")
    settings = random_settings(200)
    return settings, look(settings, SIMULATED, tmp_path_factory.mktemp("explorer"))


def test_losses_are_those_of_the_theory_at_200_random_settings(seen):
    settings, found = seen
    errors = []
    for at, one in zip(settings, found["numbers"], strict=True):
        if abs(at["n_v"] * at["m"] - at["p"]) <= 1:
            assert one["loss"] == "Infinity"
            continue
        expected = theory(at, at["train"])[1](at["adapt"])
        errors.append(abs(float(one["loss"]) / expected - 1))
    assert len(errors) > 180
    assert max(errors) < 1e-9


def test_best_rates_are_those_of_the_theory(seen):
    settings, found = seen
    grid = np.concatenate([-np.geomspace(1e-3, 1e3, 60)[::-1], [0.0], np.geomspace(1e-3, 1e3, 60)])
    for at, one in zip(settings[::5], found["numbers"][::5], strict=True):
        if abs(at["n_v"] * at["m"] - at["p"]) <= 1:
            assert one["rate"] == "NaN"
            continue
        design = ut.Design(at["m"], at["n_t"], at["n_v"], at["n_r"])
        task2, noise2 = at["task_std"] ** 2, at["noise_std"] ** 2
        q = equivalent.coefficients(at["p"], design, grid).distance(0.0, task2, noise2)
        assert one["q"] <= q.min() * (1 + 1e-3), at
        assert one["q"] >= q.min() * (1 - 5e-3), at
        assert one["adapt"] == pytest.approx(
            float(adapted_loss.best_rate(at["p"], at["n_r"], np.array(one["q"]), task2, noise2))
        )


def test_the_simulation_of_the_page_agrees_with_the_theory(seen):
    for at, results in zip(SIMULATED, seen[1]["simulated"], strict=True):
        problem = ut.MixedLinearRegression(at["p"], at["noise_std"], at["task_std"])
        design = ut.Design(at["m"], at["n_t"], at["n_v"], at["n_r"])
        expected = np.asarray(ut.theory.expected_distance(problem, design, RATES))
        for rate, q, (mean, error) in zip(RATES, expected, results, strict=True):
            stated = ut.theory.method_for(problem, design, rate).expected_relative_error * q
            assert abs(mean - q) < 4 * error + stated, (at, rate)


def check(page):
    assert page["errors"] == []
    assert page["needed"] <= page["width"], "the page scrolls sideways"
    assert (page["unnamed"], page["inputs"]) == (0, 18)
    assert page["before"] != page["after"]
    assert "2 × 40 = 80 query rows" in page["after"]
    assert page["least"] == "6", "a number beyond the range is put to its end"
    assert (page["curves"], page["marks"]) == (3, 2)
    assert page["edges"] >= 3
    assert page["points"] > 11
    assert int(page["drawn"].split()[0]) > 0


def test_a_page_is_drawn_at_any_width_and_answers_its_controls(seen):
    for page in seen[1]["pages"]:
        check(page)
        assert page["background"] == "rgb(255, 255, 255)"


@pytest.mark.long
@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_dark_page(tmp_path):
    for page in look([], [], tmp_path, dark=True)["pages"]:
        check(page)
        assert page["background"] == "rgb(20, 24, 28)"


def test_the_page_asks_nothing_of_the_network_and_is_the_same_each_time(tmp_path):
    path = tmp_path / "explorer.html"
    write_explorer(path)
    text = path.read_text(encoding="utf-8")
    assert text == explorer_page()
    assert not re.findall(r"""(?:src|href)\s*=|url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)""", text)
    assert "default-src 'none'; script-src 'sha256-" in text
    assert "unsafe-" not in text
