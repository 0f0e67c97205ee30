"""Arguments of the library as options of a command: names, values, and what a command has no option for."""

import pytest
import typer

from undertow._check import InputError, Setting
from undertow.cli import app
from undertow.cli.options import spell


def command(name):
    return typer.main.get_command(app).get_command(None, name)


@pytest.mark.parametrize(
    ("of", "name", "value", "text"),
    [
        ("fit", "n_support", 7, "--n-support 7"),
        ("fit", "n_support", None, "--n-support"),
        ("fit", "cv", 3, "--folds 3"),
        ("compare", "n_folds", 3, "--folds 3"),
        ("compare", "n_draws", None, "--draws"),
        ("compare", "n_repeats", 2, "--repeats 2"),
        ("compare", "time_limit", "None", "--time-limit inf"),
        ("fit", "min_rows", 6, "--n-support 5"),
        ("fit", "features", ["a", "b c"], "--features 'a,b c'"),
        ("fit", "on_small", "drop", "--on-small drop"),
        ("fit", "overwrite", True, "--overwrite"),
        ("fit", "table", "my.csv", "'my.csv'"),
        ("fit", "max_levels", 60, "--max-levels 60"),
        ("predict", "max_levels", 60, "max levels 60"),
        ("predict", "n_folds", 3, "n folds 3"),
        ("theory", "noise_std", -1.0, "--noise-std -1.0"),
        ("train", "n_support", 7, "n_support=7"),
        ("fit", "a sentence of old", None, "a sentence of old"),
    ],
)
def test_arguments_are_spelled_as_the_command_has_them(of, name, value, text):
    assert spell(name, value, command(of)) == text


def test_the_message_of_an_error_speaks_of_options_in_all_its_parts():
    error = InputError("n_support", 7, "task 'a' has 6 rows.", ("Use fewer, or ", Setting("on_small", "drop"), "."))
    fit = command("fit")
    said = error.text(lambda setting: spell(setting.name, setting.value, fit))
    assert said == "--n-support 7: task 'a' has 6 rows. Use fewer, or --on-small drop."
