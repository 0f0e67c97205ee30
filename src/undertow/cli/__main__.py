"""``python -m undertow.cli`` is the command ``undertow``."""

from undertow.cli import main

main()
