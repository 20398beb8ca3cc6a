"""Every test that ``docs/traps.md`` rests on exists."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_the_tests_that_watch_the_traps_exist():
    named = set(
        re.findall(r"`(test_\w+)`", (TESTS.parent / "docs/traps.md").read_text())
    )
    defined = {
        node.name
        for path in TESTS.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }

    assert len(named) > 50
    assert named - defined == set()
