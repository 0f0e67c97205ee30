"""The command line: exit codes, messages, and that it starts fast."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

import undertow as ut
from undertow.cli import app
from undertow.cli.output import console, show_table
from undertow.cli.theory import interval_text, parse_rates

SIZES = ["--n-features", "60", "--n-support", "30", "--n-query", "2", "--n-tasks", "3", "--n-adapt", "20"]


def call(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def process(*args, **options):
    code = "from undertow.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True, timeout=120, **options
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys, typer.testing, undertow.cli as c\n"
        "assert typer.testing.CliRunner().invoke(c.app, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'scipy', 'sklearn', 'matplotlib', 'pyarrow', 'pydantic', 'jax'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [[], ["reproduce"], ["theory"], ["explore"], ["list"]])
def test_every_command_has_help(command):
    done = call(*command, "--help")
    assert done.exit_code == 0
    assert "Usage" in done.output


def test_explore_writes_one_page(tmp_path):
    done = call("explore", "--out", str(tmp_path / "page.html"))
    assert done.exit_code == 0, done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["page.html"]
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_version():
    done = call("--version")
    assert (done.exit_code, done.stdout.strip()) == (0, f"undertow {ut.__version__}")


def test_list_names_every_experiment_and_its_claim():
    done = call("list")
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) <= 24
    for name in ut.experiments.names():
        (line,) = (line for line in done.stdout.splitlines() if line.startswith(f"{name} "))
        assert ut.experiments.get(name).claim in line


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["reproduce", "nope"], "experiment nope: choose one of 'overparameterized'"),
        (["reproduce", "threshold", "nope"], "experiment nope: "),
        (["reproduce", "--seed", "-1"], "--seed -1: it must be a whole number of at least 0"),
        (["reproduce", "--redraw", "--seed", "1"], "--redraw computes nothing"),
        (["reproduce", "threshold", "--redraw"], "there is no table to draw"),
        (["reproduce", "--redraw"], "undertow-results holds no results to draw"),
        (["reproduce", "--quik"], "No such option"),
        (["reproduce", "THRESHOLD"], "Did you mean 'threshold'?"),
        (["reproduce", "threshold", "--images", "."], "only omniglot reads images"),
        (["reproduce", "threshold", "--out", "/dev/null"], "--out /dev/null: /dev/null is a file and not a directory"),
        (["reproduce", "--quick=yes"], "does not take a value"),
        (["fit"], "See 'undertow fit --help'"),
        (["predict", "m", "t.csv", "--interval=90%"], "--interval 90%: it must be a number."),
        (["train", "sines.toml"], "there is no such file"),
        (["train", "table.csv"], "Give a .toml file"),
        (["nope"], "No such command"),
        (["theory"], "Missing option"),
        (["theory", *SIZES, "--n-query", "0"], "--n-query 0: it must be a whole number of at least 1"),
        (["theory", *SIZES, "--noise-std", "-1"], "--noise-std -1.0: it must be at least 0"),
        (["theory", *SIZES, "--rates", "a:b"], "Give LOW:HIGH:COUNT"),
        (["theory", *SIZES, "--rates", "0:1:0"], "is empty"),
        (["theory", *SIZES, "--rates", "0,nan"], "must be finite"),
        (["theory", *SIZES, "--method", "magic"], "--method magic: "),
        (["theory", *SIZES, "--rates", "-1:1:-3"], "Give LOW:HIGH:COUNT"),
        (["theory", *SIZES, "--rates", "1:2:1000000000000"], "1000000000000 rates are too many. Give at most 100000"),
        (["theory", *SIZES, "--rates", "1e308"], "--rates 1e+308: it must lie between -1e+06 and 1e+06"),
        (["theory", *SIZES, "--rates", "-1e308:1e308:3"], "--rates 1e+308: it must lie between"),
        (["theory", *SIZES, "--adapt-rate", "1e200"], "--adapt-rate 1e+200: it must lie between"),
        (["theory", *SIZES, "--noise-std", "1e200"], "--noise-std 1e+200: it must lie between"),
        (["theory", *SIZES, "--task-std", "1e200"], "--task-std 1e+200: it must lie between"),
        (["theory", *SIZES, "--init-distance", "1e200"], "--init-distance 1e+200: it must lie between"),
        (["theory", *SIZES, "--n-features", "10000000000000"], "and at most 100,000,000"),
        (["explore", "--out", "page.txt"], "--out page.txt: the name must end in .html"),
        (["explore", "--out", "missing/page.html"], "there is no directory missing"),
        (["theory", *SIZES, "--plot", "curve.txt"], "must end in .png, .svg or .pdf"),
        (["theory", *SIZES, "--rates", "-1,0", "--plot", "missing/curve.png"], "missing/curve.png"),
    ],
)
def test_input_that_cannot_be_used_gives_one_message_and_exit_code_2(args, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call(*args)
    assert done.exit_code == 2
    assert done.stderr.startswith("Error: ")
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("args", [["reproduce", "nope"], ["nope"], ["theory", *SIZES, "--method", "magic"]])
@pytest.mark.long
def test_a_real_process_exits_with_2_and_shows_no_traceback(args, tmp_path):
    done = process(*args, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "rror" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_figure_that_cannot_be_written_is_refused_before_anything_is_computed(monkeypatch, tmp_path):
    monkeypatch.setattr(ut.theory, "expected_loss", None)
    for place, words in ((tmp_path / "no" / "c.png", "there is no directory"), (tmp_path / "c.txt", "must end in")):
        done = call("theory", *SIZES, "--plot", place)
        assert (done.exit_code, done.stdout) == (2, "")
        assert words in done.stderr


@pytest.mark.parametrize("rate", ["-1e6", "1e6"])
def test_the_largest_rate_is_an_infinite_one_to_six_digits(rate):
    done = call("theory", *SIZES, "--rates", rate, "--json")
    limit = ut.theory.expected_loss(ut.MixedLinearRegression(60, 1.0, 0.5), ut.Design(3, 30, 2, 20), np.inf, 0.2)
    assert json.loads(done.stdout)["loss"] == [pytest.approx(float(limit), rel=1e-6)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OverflowError(34, "Numerical result out of range"), "(Numerical result out of range): change its unit"),
        (MemoryError("Unable to allocate 72.8 TiB"), "not enough memory (Unable to allocate 72.8 TiB)"),
        (MemoryError(), "not enough memory"),
        (UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "bad"), "must be UTF-8"),
    ],
)
def test_what_is_too_large_or_no_text_is_one_message(monkeypatch, error, message):
    def broken():
        raise error

    monkeypatch.setattr("undertow.experiments.names", broken)
    done = call("list")
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_python_m_undertow_is_the_command():
    done = subprocess.run([sys.executable, "-m", "undertow", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, f"undertow {ut.__version__}")


def test_help_is_plain_text():
    assert "`" not in call("list", "--help").output
    assert "......" not in (text := call("reproduce", "--help").output)
    assert "]......" not in text
    assert "NAME...]" not in text


@pytest.mark.parametrize("defect", [TypeError, ValueError])
def test_a_defect_is_not_dressed_up_as_bad_input(monkeypatch, defect):
    def broken():
        raise defect

    monkeypatch.setattr("undertow.experiments.names", broken)
    assert isinstance(call("list").exception, defect)


def test_a_sweep_is_readable_and_holds_zero_exactly():
    assert parse_rates("-0.3:0.6:10").tolist() == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert parse_rates("0.2,-1,0,0.2").tolist() == [-1.0, 0.0, 0.2]


@pytest.mark.long
def test_an_output_folder_that_cannot_be_made_is_one_message(tmp_path):
    (tmp_path / "file").write_text("")
    done = process("reproduce", "threshold", "--quick", "--out", tmp_path / "file")
    assert done.returncode == 2
    assert done.stderr.startswith("Error:")
    assert "file" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission_is_one_message(tmp_path):
    tmp_path.chmod(0o500)
    done = process("reproduce", "threshold", "--quick", "--out", tmp_path)
    assert done.returncode == 2
    assert "Permission denied" in done.stderr


@pytest.mark.long
def test_reproduce_runs_resumes_redraws_and_refuses(tmp_path):
    args = ("reproduce", "underparameterized", "--quick", "--out", tmp_path)
    first = process(*args)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""  # no bar in a pipe, and no warning
    folder = tmp_path / "underparameterized-quick"
    assert (folder / "figure.png").is_file()
    assert str(folder) in first.stdout
    found = json.loads((folder / "finding.json").read_text())
    assert found["claim"] in first.stdout
    assert all(line in first.stdout for line in found["lines"])
    assert f"  {found['result']}; figure: {folder / 'figure.png'}" in first.stdout.splitlines()
    assert len(first.stdout.splitlines()) <= 24

    again = call(*args)
    assert f"{found['result']}, from the stored runs" in again.stdout
    assert again.stdout.splitlines()[:3] == first.stdout.splitlines()[:3]
    assert call(*args, "--redraw").exit_code == 0

    refused = call(*args, "--seed", "3")
    assert refused.exit_code == 2
    assert "seed: 0 there, 3 now" in refused.stderr
    anew = call(*args, "--seed", "3", "--overwrite")
    assert (anew.exit_code, json.loads((folder / "config.json").read_text())["seed"]) == (0, 3)


@pytest.mark.long
def test_reproduce_of_several_ends_with_a_row_for_each(tmp_path):
    names = ["underparameterized", "anisotropic"]
    done = call("reproduce", *names, "--quick", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) <= 5 * len(names) + 4
    assert max(map(len, lines)) <= 120 + len(str(tmp_path))
    head = next(i for i, line in enumerate(lines) if line.startswith("experiment "))
    for name, line in zip(names, lines[head + 1 :], strict=False):
        found = json.loads((tmp_path / f"{name}-quick" / "finding.json").read_text())
        assert line.startswith(name)
        assert line.endswith(found["result"])


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ((-1.5, -0.5), "from -1.5 to -0.5"),
        ((2.0, -3.0), "from +2 through infinity to -3"),
        ((None, -3.0), "from infinity to -3"),
        ((2.0, None), "from +2 to infinity"),
        ((None, None), "at every rate"),
    ],
)
def test_an_interval_on_the_circle_of_rates_is_said_in_its_order(interval, words):
    assert interval_text(*interval) == words


def test_theory_prints_what_theory_says():
    done = call("theory", *SIZES, "--rates", "-2:1:4", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    problem = ut.MixedLinearRegression(60, 1.0, 0.5)
    design = ut.Design(3, 30, 2, 20)
    assert answer["train_rates"] == [-2, -1, 0, 1]
    np.testing.assert_allclose(
        answer["loss"], ut.theory.expected_loss(problem, design, np.array([-2.0, -1.0, 0.0, 1.0]), 0.2), rtol=1e-12
    )
    best = ut.theory.optimal_train_rate(problem, design)
    assert answer["optimal_train_rate"] == float(best)
    assert answer["method"] == best.method
    assert answer["optimal_adapt_rate"] == float(ut.theory.optimal_adapt_rate(problem, design, float(best)))
    assert answer["loss_at_optimal_train_rate"] < min(answer["loss"])
    assert answer["loss_at_both_optima"] < answer["loss_at_optimal_train_rate"]


def test_theory_for_people_is_short_and_says_the_method():
    done = call("theory", *SIZES)
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) < 25
    assert "N = 6 query rows < p = 60 features; method: exact" in done.stdout
    best = ut.theory.optimal_train_rate(ut.MixedLinearRegression(60, 1.0, 0.5), ut.Design(3, 30, 2, 20))
    assert f"best train rate: {best:+.4f}" in done.stdout
    assert f"from {best.interval[0]:+.3g} to {best.interval[1]:+.3g}" in done.stdout
    assert "% below the loss at train rate 0" in done.stdout
    assert "of 61 rates" in done.stdout


INFINITE = ("theory", "--n-features", "6", "--n-support", "5", "--n-query", "2", "--n-tasks", "3", "--rates", "-1,0")


def test_theory_where_the_mean_is_infinite_says_so_in_valid_json():
    done = call(*INFINITE, "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["loss"] == [None, None]
    assert "optimal_train_rate" not in answer


def test_theory_where_the_mean_is_infinite_says_so_in_words(tmp_path):
    done = call(*INFINITE, "--plot", tmp_path / "curve.png")
    assert done.exit_code == 0, done.output
    assert "inf" in done.stdout
    assert "best train rate" not in done.stdout
    assert (tmp_path / "curve.png").is_file()


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.usefixtures("drawn")
def test_theory_draws_a_figure(tmp_path, kind):
    path = tmp_path / f"curve.{kind}"
    done = call("theory", *SIZES, "--rates", "-1:0:3", "--plot", path)
    assert done.exit_code == 0, done.output
    assert path.stat().st_size > 1000


def test_a_table_in_a_pipe_is_as_wide_as_it_needs_to_be(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    cells = ("a" * 50, "1" * 40, "2" * 40)
    show_table(console(soft_wrap=True), cells, [cells])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [list(cells)] * 2
