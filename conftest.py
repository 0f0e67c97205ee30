"""Python blocks of README.md and docs/ and examples of docstrings run as tests; a page's blocks share one namespace."""

import os
import sys

# One thread for linear algebra: the tests are small, and threads that wait for each other are slower than none.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from sybil import Sybil  # noqa: E402
from sybil.parsers.myst import PythonCodeBlockParser  # noqa: E402
from sybil.parsers.rest import DocTestParser  # noqa: E402

pages = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/*/*.md"], excludes=["docs/_build/*"]
)
docstrings = Sybil(parsers=[DocTestParser()], patterns=["*.py"], path="src/undertow")
pytest_collect_file = (pages + docstrings).pytest()


def pytest_configure(config):
    """Compile programs of JAX with less care in the quick suite."""
    # Most time of a small test with JAX goes into compiling. Long tests compile as a user's program does.
    if "not long" in config.option.markexpr and "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
        # Plugins may have imported JAX by now.
        if "jax" in sys.modules:
            sys.modules["jax"].config.update("jax_disable_most_optimizations", True)
