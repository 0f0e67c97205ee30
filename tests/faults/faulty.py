"""How many faults, and which: UNDERTOW_FAULTS times as many as a long test makes by itself, UNDERTOW_FAULT_SEED on."""

import os

FACTOR = int(os.environ.get("UNDERTOW_FAULTS", "1"))
SEED = int(os.environ.get("UNDERTOW_FAULT_SEED", "0"))


def times(n):
    """How many of a fault of which a long test makes n by itself."""
    return n * FACTOR


def seeds(n):
    """Seeds of n faults, after those of a smaller UNDERTOW_FAULT_SEED."""
    return range(SEED * 10**6, SEED * 10**6 + n)
