"""A config that cannot be used is refused when it is made, with the name of what is wrong."""

import pytest
from pydantic import ValidationError

from undertow import experiments
from undertow.trials.config import evenly

ALL = [name for name in experiments.names() if experiments.get(name).panels(experiments.get(name).config())]


@pytest.mark.parametrize("name", ALL)
def test_defaults_and_quick_settings_are_valid_and_survive_a_file(name):
    record = experiments.get(name)
    for quick in (False, True):
        config = record.config(quick)
        assert record.Config(**config.model_dump(mode="json")) == config
        assert all(field.description for field in record.Config.model_fields.values())
    cells = record.cells(record.config())
    assert len(record.cells(record.config(quick=True))) < len(cells)
    assert len({cell.key for cell in cells}) == len(cells)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_feature": 3}, "Extra inputs are not permitted"),
        ({"n_features": "60"}, "valid integer"),
        ({"n_features": 0}, "greater than or equal to 1"),
        ({"n_support": 2.0}, "valid integer"),
        ({"noise_std": -1.0}, "greater than or equal to 0"),
        ({"noise_std": float("nan")}, "finite"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"seed": True}, "valid integer"),
        ({"train_rates": (0.2, 0.0)}, "rates must ascend"),
        ({"train_rates": (0.0, 0.0)}, "rates must ascend"),
        ({"train_rates": (0.0, float("inf"))}, "finite"),
        ({"train_rates": (0.0,)}, "at least 2"),
        ({"noise_std": 0.0, "task_std": 0.0}, "noise_std and task_std are both 0"),
        ({"noise_std": 1e-200, "task_std": 0.0}, "noise_std and task_std are both 0"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ValidationError, match=message):
        experiments.get(name).config(**settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("overparameterized", {"n_tasks": 30}, r"n_query \* n_tasks = 60 with n_features = 60"),
        ("overparameterized", {"train_rates": (-1.0, 1.0)}, "must contain exactly 0"),
        ("underparameterized", {"n_tasks": 6}, r"n_query \* n_tasks = 30 with n_features = 30"),
        ("threshold", {"n_tasks": (4, 2)}, "n_tasks must ascend"),
        ("threshold", {"train_rates": (-0.5, 0.2)}, "must contain exactly 0"),
        ("threshold", {"runs": 1}, "greater than or equal to 2"),
        ("anisotropic", {"input_variances": (1.0, 0.0)}, "must be positive"),
        ("anisotropic", {"input_variances": (1.0, 1.0, 1.0)}, "cannot be shared equally"),
        ("anisotropic", {"n_tasks": 4}, "at least n_features"),
        ("anisotropic", {"adapt_rates": (0.0, 0.1, 0.2)}, "at most 2"),
    ],
)
def test_settings_that_do_not_fit_the_experiment_are_refused(name, settings, message):
    with pytest.raises(ValidationError, match=message):
        experiments.get(name).config(**settings)


def test_a_config_is_frozen():
    config = experiments.get("threshold").config()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 3


def test_sizes_of_the_paper_are_the_defaults():
    config = experiments.get("overparameterized").config()
    sizes = (config.n_support, config.n_query, config.n_adapt, config.n_tasks, config.n_features)
    assert sizes == (30, 2, 20, 3, 60)
    assert (config.noise_std, config.task_std, config.fixed_train_rate, config.fixed_adapt_rate) == (1.0, 0.5, 0.2, 0.2)
    assert (config.adapt_runs, config.n_test_tasks, config.n_test_rows) == (100, 100, 50)
    assert config.train_runs >= 1000  # the paper's number, or more of them


def test_evenly_spaced_rates_are_readable_and_hold_zero():
    assert evenly(-0.3, 0.3, 7) == (-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3)
