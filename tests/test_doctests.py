"""The examples in the docstrings of the mathematics say what the code does."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest

MODULES = ("apot", "assignment", "compression", "regulariser", "rounds", "scaled_apot", "scope", "sigma_join")


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold_and_every_public_function_has_one(name: str) -> None:
    module = import_module(f"pwfn.{name}")
    failures, count = doctest.testmod(module)
    assert failures == 0 and count > 0
    functions = [key for key in module.__all__ if type(vars(module)[key]).__name__ == "function"]
    lacking = [key for key in functions if ">>>" not in (vars(module)[key].__doc__ or "")]
    assert not lacking
