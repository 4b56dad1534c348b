"""Runs the tests beside it and closes with their count, for tests/run.sh."""

import sys
import unittest
from pathlib import Path

suite = unittest.defaultTestLoader.discover(str(Path(__file__).parent))
result = unittest.TextTestRunner(sys.stdout, verbosity=2).run(suite)
# A subtest that fails counts as its test.
wrong = [getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors]
failed = len(set(wrong))
print(f"container: {result.testsRun - failed} passed, {failed} failed")
sys.exit(failed > 0)
