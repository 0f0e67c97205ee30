"""What importing the gradient half needs and does."""

import subprocess
import sys


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_missing_extra_is_named_with_the_command_that_installs_it():
    result = run("import sys; sys.modules['optax'] = None\nimport undertow\nundertow.gradient")
    assert result.returncode == 1
    message = result.stderr.strip().splitlines()[-1]
    expected = 'ImportError: undertow.gradient needs optax, which is not installed: pip install "undertow[gradient]"'
    assert message == expected


def test_importing_changes_no_setting_of_jax():
    code = (
        "import jax; now = lambda: dict(jax.config.values); old = now(); import undertow.gradient; assert old == now()"
    )
    assert run(code).returncode == 0
