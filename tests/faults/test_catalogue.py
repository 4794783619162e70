"""The list of faults names tests that exist."""

import ast
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS

TESTS = Path(__file__).resolve().parents[1]


def functions_of(path: Path) -> set[str]:
    """The functions that a file defines."""
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_has_tests_that_exist(fault: str) -> None:
    """A renamed or deleted test would leave the fault without."""
    assert FAULTS[fault]
    for name in FAULTS[fault]:
        file, _, function = name.partition("::")
        assert function in functions_of(TESTS / file), name
