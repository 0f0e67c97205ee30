import jax
import pytest


@pytest.fixture
def x64():
    """Float64 in JAX for one test, and only there."""
    with jax.enable_x64(True):
        yield
