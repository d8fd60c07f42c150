"""Runs contracts of broken loggers, which must fail."""

import subprocess
import sys
from xml.etree import ElementTree


def failures(directory, source, tests, *arguments):
    """Run tests of a module in a directory of its own; return `Class::test` → message of those that failed."""
    (directory / "test_broken.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=found.xml", *arguments]
    command += [f"test_broken.py::{each}" for each in sorted(tests)]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return {
        f"{case.get('classname').rpartition('.')[2]}::{case.get('name')}": failure.get("message")
        for case in ElementTree.parse(directory / "found.xml").iter("testcase")
        for failure in case.iter("failure")
    }
