"""Experiments that train by gradient: registered without JAX, refused without it, and what small ones show."""

import subprocess
import sys
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from undertow import experiments
from undertow._check import InputError
from undertow.cli import app
from undertow.experiments import direction, network_runs, nonlinear_map, omniglot, sinusoid
from undertow.problem import Design, QuadraticRegression
from undertow.trials import paired
from undertow.trials.panel import Cell
from undertow.trials.store import Folder

NAMES = ("nonlinear", "direction", "sinusoid", "omniglot")


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.fixture
def no_jax(monkeypatch):
    monkeypatch.setattr(
        "undertow.experiments.training_experiment.find_spec", lambda name: None if name == "jax" else object()
    )


def test_the_registry_and_the_list_do_not_import_jax():
    code = (
        "import sys, typer.testing; from undertow.cli import app; from undertow import experiments as e\n"
        "out = typer.testing.CliRunner().invoke(app, ['list']).stdout\n"
        f"assert all(name in out for name in {NAMES})\n"
        f"assert all(e.get(name).cells(e.get(name).config()) for name in {NAMES})\n"
        "sys.exit(str({'jax', 'optax'} & set(sys.modules)) if {'jax', 'optax'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_without_jax_there_is_one_message_and_no_folder(name, no_jax, tmp_path):
    with pytest.raises(InputError, match=r'needs jax: pip install "undertow\[gradient\]"'):
        experiments.reproduce(name, tmp_path)
    assert not list(tmp_path.iterdir())


def results(run):
    """In place of what runs experiments: call ``run`` for each."""
    return lambda todo, *_: ((record, run(record, config)) for record, config in todo)


def test_reproduce_without_names_leaves_out_what_cannot_run_and_says_so(no_jax, tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr("undertow.cli.reproduce._results", results(lambda record, config: ran.append(record.name)))
    monkeypatch.setattr("undertow.cli.reproduce._show", lambda record, result: None)
    monkeypatch.setattr("undertow.cli.reproduce._summarise", lambda shown: None)
    done = call("reproduce", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    assert not set(ran) & set(NAMES)
    assert ran == [name for name in experiments.names() if name not in NAMES and not experiments.get(name).by_name]
    assert 'nonlinear: skipped, nonlinear trains by gradient and needs jax: pip install "undertow[' in done.stdout
    assert "omniglot: skipped, its data do not come with the package: give --images PATH" in done.stdout


def test_reproduce_without_names_runs_omniglot_only_with_images(tmp_path, monkeypatch):
    ran = {}
    each = results(lambda record, config: ran.update({record.name: config}))
    monkeypatch.setattr("undertow.cli.reproduce._results", each)
    monkeypatch.setattr("undertow.cli.reproduce._show", lambda record, result: None)
    monkeypatch.setattr("undertow.cli.reproduce._summarise", lambda shown: None)
    call("reproduce", "--out", tmp_path)
    assert set(ran) == {name for name in experiments.names() if not experiments.get(name).by_name} - {"omniglot"}
    call("reproduce", "--out", tmp_path, "--images", tmp_path)
    assert ran["omniglot"].images == str(tmp_path)
    assert "Give --images PATH" in call("reproduce", "omniglot", "--out", tmp_path).stderr
    assert "does not exist" in call("reproduce", "omniglot", "--images", tmp_path / "no").stderr


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_strict_and_survive_a_file(name):
    record = experiments.get(name)
    for quick in (False, True):
        config = record.config(quick)
        assert record.Config(**config.model_dump(mode="json")) == config
        assert all(field.description for field in record.Config.model_fields.values())
        keys = [cell.key for cell in record.cells(config)]
        assert len(set(keys)) == len(keys)
    assert len(record.cells(record.config(quick=True))) < len(record.cells(record.config()))
    for wrong in ({"widht": 3}, {"train_rates": (0.1, 0.2)}, {"train_rates": (0.0, float("inf"))}, {"runs": 1}):
        with pytest.raises(ValidationError):
            record.config(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"n_feature": 3}, {"n_features": 2.0}, {"train_rates": (0.1, 0.2)}, {"train_rates": (0.0, 0.0)}]
)
@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("direction", "over"),
        ("direction", "under"),
        ("direction", "network"),
        ("nonlinear", "few"),
        ("nonlinear", "many"),
    ],
)
def test_the_parts_of_an_experiment_are_strict_too(name, part, wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        experiments.get(name).config(**{part: wrong})


def test_a_folder_of_other_settings_of_a_part_is_refused_by_the_name_of_the_setting(tmp_path):
    record = experiments.get("direction")
    Folder(tmp_path / "direction").open("direction", record.config())
    with pytest.raises(InputError, match=r"network\.width: 400 there, 64 now"):
        Folder(tmp_path / "direction").open("direction", record.config(network={"width": 64}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"few": {"n_tasks": 20000}}, "fewer query rows than parameters"),
        ({"many": {"n_tasks": 20000}}, "fewer query rows than parameters"),
        ({"width": 301}, "multiple of 2"),
    ],
)
def test_a_nonlinear_config_that_cannot_be_used_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        experiments.get("nonlinear").config(**settings)


FEW = {"n_features": 4, "n_tasks": 3, "n_support": 5, "n_adapt": 5, "train_rates": (-1.0, 0.0, 0.5), "runs": 2}
TINY = {
    "nonlinear": {
        "few": FEW,
        "many": FEW,
        "width": 64,
        "exchanged_runs": 2,
        "kernel_runs": 40,
        "map_problems": 3,
        "map_runs": 2,
        "n_test_tasks": 5,
    },
    # Sizes of the network as above: what is compiled serves both.
    "direction": {
        "over": {"n_features": 12, "n_tasks": 2, "n_support": 6, "train_rates": (-1.0, 0.0, 0.3)},
        "under": {"n_features": 3, "n_tasks": 4, "n_support": 6, "train_rates": (-0.5, 0.0, 0.3)},
        "network": {
            "n_features": 4,
            "n_tasks": 3,
            "n_support": 5,
            "n_adapt": 5,
            "width": 64,
            "train_rates": (-1.0, 0.0, 0.5),
            "runs": 2,
        },
        "runs": 3,
        "loops": {"adam_updates": 300, "network_adam_updates": 60},
        "n_test_tasks": 5,
    },
    "sinusoid": {
        "shots": (5,),
        "iterations": 60,
        "train_rates": (-0.01, 0.0, 0.01),
        "adapt_rates": (0.0, 0.05),
        "learned_from": (0.0, 0.02),
        "runs": 2,
        "n_test_tasks": 20,
        "n_test_rows": 10,
    },
}


@pytest.fixture(scope="module")
def tables():
    """(record, config, table) by name, each run once and only when a test asks for it: compiling takes the time."""

    @cache
    def run(name):
        record = experiments.get(name)
        config = record.config(**TINY[name])
        return record, config, record.run(config)

    return run


@pytest.mark.long
@pytest.mark.parametrize("name", ["nonlinear", "sinusoid", "direction"])
def test_the_same_settings_give_the_same_numbers_and_a_figure(name, tables):
    record, config, table = tables(name)
    cell = record.cells(config)[0]
    again = record.run_cell(config, cell)
    assert again.equals(table.slice(0, len(again)))
    assert record.draw(table, config).axes
    assert record.draw_details is None or record.draw_details(table, config).axes
    assert all(isinstance(line, str) and "nan" not in line for line in record.verdict(table, config))


@pytest.mark.long
def test_the_trained_network_is_near_its_kernel_and_the_nearer_the_wider():
    problem, design = QuadraticRegression(4, 0.5, 0.5), Design(3, 5, 2, 5)
    gaps = {}
    for width in (64, 2048):
        part = network_runs.Part("a", problem, design, width, True, (-1.0, 0.0), 0.25, (5, 20))
        table = network_runs.compute(part, Cell("a", 0, 0, 2, 0, (0, 0)), 5000, 1e-4)
        assert table["converged"].to_numpy(zero_copy_only=False).all()
        gaps[width] = np.array([table[f"gap_{source}"].to_numpy() for source in ("empirical", "analytic")]).mean(axis=1)
    # 32 times the width: a distance that falls like 1 / sqrt(width) falls to 0.18 of itself.
    assert (gaps[2048] < 0.5 * gaps[64]).all()


def test_parts_of_nonlinear_have_draws_of_their_own():
    record = experiments.get("nonlinear")
    cells = record.cells(record.config(**TINY["nonlinear"]))
    assert len({cell.spawn_key for cell in cells}) == len(cells)


def test_the_spread_of_heights_is_the_variance_between_tasks_over_that_within():
    problem = experiments.get("nonlinear").config().many
    tasks = problem.quadratic.sample(Design(4000, 1, 400), 0)
    means, variances = tasks.query_y.mean(axis=1), tasks.query_y.var(axis=1, ddof=1)
    # Means of 400 rows still carry a 400th of what is within. Resampled tasks give the standard error.
    pick = np.random.default_rng(1).integers(0, 4000, (200, 4000))
    ratio = lambda one: means[one].var(ddof=1) / variances[one].mean() - 1 / 400  # noqa: E731
    se = np.std([ratio(one) for one in pick])
    assert abs(ratio(slice(None)) - nonlinear_map.height_spread(problem)) < 4 * se


@pytest.mark.long
def test_the_map_turns_its_sign_with_the_rows_and_the_heights():
    """The border was fitted on other draws: problems far on either side have the sign that it says."""
    config = experiments.get("nonlinear").config(n_test_tasks=20, seed=3)
    number = {"negative": 0, "positive": 0}
    for index in range(config.map_problems):
        problem = config.map_of(index)
        rows = problem.n_tasks * problem.n_query / problem.n_features**0.5
        if rows > 15 or abs(np.log(rows * nonlinear_map.height_spread(problem) / nonlinear_map.BORDER)) < 2:
            continue
        part = config.part("one", problem, 0)
        table = network_runs.compute_kernel(part, Cell("one", 0, 0, 24, 0, (index, 0)))
        one = nonlinear_map.place(table, problem, "one", "analytic", config.map_step)
        assert one.sign in (0, np.sign(np.log(one.index / nonlinear_map.BORDER)))
        number["negative" if one.sign < 0 else "positive"] += one.sign != 0
        if sum(number.values()) == 10:
            break
    assert min(number.values()) >= 2


@pytest.mark.long
def test_gradient_descent_ends_at_the_exact_solution_of_its_start_and_adam_need_not(tables):
    _, _, table = tables("direction")
    median = lambda part, arm: np.median(paired.by_run(table, "from_exact", part=part, arm=arm)[1])  # noqa: E731
    for part in ("over", "under"):
        for start in ("zero", "random"):
            assert median(part, f"descent_{start}") < 0.01
    assert median("over", "adam_zero") > 0.1
    assert median("under", "adam_zero") < 0.05
    assert median("over", "descent_early_zero") > 0.05


@pytest.mark.long
def test_a_negative_rate_raises_the_support_loss_in_every_run(tables):
    _, _, table = tables("direction")
    for part in direction.PARTS:
        for arm in direction.ARMS:
            rates, change = paired.by_run(table, "support_change", part=part, arm=f"{arm}_zero")
            assert (change[:, rates < 0] > 0).all()
            assert abs(change[:, rates == 0]).max() < 1e-6


@pytest.mark.long
def test_the_random_start_adds_what_theory_says_and_the_same_at_every_rate():
    """E of the added distance is (1 - N/p) |omega_0|^2 at every rate, times half the metric of the adaptation step."""
    record = experiments.get("direction")
    config = record.config(**TINY["direction"] | {"runs": 200, "loops": {"adam_updates": 1, "max_updates": 1}})
    from undertow.experiments import direction_runs
    from undertow.problem import Design, MixedLinearRegression
    from undertow.trials.conditional import adaptation_metric

    problem, design = MixedLinearRegression(12, 1.0, 0.5), Design(2, 6, 2, 20)
    cell = record.cells(config)[0]
    cell = type(cell)(cell.key, 0, 0, 200, 0, (0, 0))
    rates = np.array([-1.0, 0.0])
    table = direction_runs.linear(problem, design, cell, rates, 0.2, 0.5, 0.01, (1, 1, 1e-4, 1, 1), (2, 2))
    _, zero = paired.by_run(table, "test_loss", arm="exact_zero")
    _, random = paired.by_run(table, "test_loss", arm="exact_random")
    expected = float(adaptation_metric(problem, 20, 0.2)) / 2 * (1 - 4 / 12) * 0.25
    mean, se = paired.mean_and_se(random - zero)
    assert (abs(mean - expected) < 4 * se).all()


@pytest.mark.long
def test_learned_rates_report_every_array_and_a_share(tables):
    _, _, table = tables("sinusoid")
    learned = table.filter(pa.compute.field("method") == "meta_sgd").to_pandas()
    assert set(learned["leaf"]) == {"all"} | {f"layer {i} {kind}" for i in (1, 2, 3) for kind in ("weight", "bias")}
    assert learned["negative"].between(0, 1).all()
    sizes = {"weight": {1: 40, 2: 1600, 3: 40}, "bias": {1: 40, 2: 40, 3: 1}}
    one = learned[(learned["run"] == 0) & (learned["train_rate"] == 0.0)].set_index("leaf")["negative"]
    total = sum(one[f"layer {i} {kind}"] * n for kind, by in sizes.items() for i, n in by.items())
    assert abs(one["all"] - total / 1761) < 1e-9


@pytest.mark.long
def test_the_adapt_rate_of_a_train_rate_is_the_best_one(tables):
    _, _, table = tables("sinusoid")
    rates, adapt, values = sinusoid.best_adapted(table, 5)
    frame = table.filter(pa.compute.field("method") == "maml").to_pandas()
    means = frame.groupby(["train_rate", "adapt_rate"])["test_mse"].mean()
    for k, rate in enumerate(rates):
        assert np.isclose(values[:, k].mean(), means[rate].min())
        assert adapt[k] == means[rate].idxmin()


@pytest.mark.long
def test_omniglot_runs_on_images_of_ones_own(tmp_path):
    generator = np.random.default_rng(0)
    base = generator.integers(0, 256, (12, 8, 8), dtype=np.uint8)
    label = np.repeat(np.arange(12), 6)
    noise = generator.integers(0, 20, (72, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=np.minimum(base[label], 235) + noise, label=label)
    record = experiments.get("omniglot")
    config = record.config(
        images=str(tmp_path / "images.npz"), ways=3, shots=(2,), query=2, test_query=3, filters=4, layers=2,
        meta_batch=3, iterations=60, train_rates=(0.0, 0.3), adapt_rates=(0.0, 0.3), n_test_tasks=20, step=0.01,
    )  # fmt: skip
    table = record.run(config)
    assert len(table) == 2 * 2 * 2
    rates, _, values = omniglot.best_adapted(table, 2)
    assert (values.mean(axis=0)[rates == 0.3] > 0.5).all()
    _, unadapted = paired.by_run(table, "accuracy", adapt_rate=0.0)
    # Numbers of classes are drawn anew for each task: without a step there is nothing to know.
    assert (abs(unadapted - 1 / 3) < 4 * np.sqrt(2 / 9 / 180) * 3**0.5).all()
    assert record.draw(table, config).axes
    assert "guessing gives 33 %" in record.verdict(table, config)[-1]
    with pytest.raises(InputError, match="omniglot needs a folder of images"):
        record.run_cell(record.config(), record.cells(record.config())[0])
