"""Scripts that train with Lightning, each in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

from waiting import A_WHILE

SCRIPTS = Path(__file__).parents[1] / "integrations" / "scripts"


def run_script(name, directory, *arguments, **variables):
    """Run a script in ``directory``, which is also its home; return the completed process."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("RANKZERO_", "PL_"))}
    path = os.pathsep.join(filter(None, [str(SCRIPTS.parents[1]), os.environ.get("PYTHONPATH")]))
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONWARNINGS": "ignore"}
    environment["RANKZERO_SYSTEM_METRICS"] = "0"
    environment |= {"HOME": str(directory), "TMPDIR": str(directory), **variables}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / name), *map(str, arguments)],
        cwd=directory, env=environment, capture_output=True, text=True, timeout=A_WHILE, check=False,
    )  # fmt: skip
