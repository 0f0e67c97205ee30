"""Every Python block of README.md and of docs/ is run as a test; a page's blocks share one namespace."""

import os

# One thread for linear algebra: the tests are small, and threads that wait for each other are slower than none.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from sybil import Sybil  # noqa: E402
from sybil.parsers.myst import PythonCodeBlockParser  # noqa: E402

pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser()], patterns=["README.md", "docs/*.md", "docs/*/*.md"], excludes=["docs/_build/*"]
).pytest()
