"""The time of `import rankzero` and of the first `rankzero.start()` in a process."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from measuring import Table, in_turns

ROUNDS = 25
IMPORT_LIMIT_MS = 60.0
START_LIMIT_MS = 20.0
HEAVY = ("torch", "numpy", "pandas", "PIL", "pyarrow", "matplotlib")

START = """
import sys, time, rankzero
from servers.down_logger import DownLogger
loggers = {loggers}
began = time.perf_counter()
run = rankzero.start(loggers)
taken = time.perf_counter() - began
print(taken)
run.finish(timeout=10)
"""


def main() -> None:
    table = Table("Importing rankzero, and starting a run in a fresh process")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        # Cache bytecode as for any user, but outside of the source.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment |= {
            "PYTHONPYCACHEPREFIX": str(Path(directory, "cache")),
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "RANKZERO_DIR": str(Path(directory, "runs")),
        }

        def python(code: str) -> str:
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=directory)
            if done.returncode:
                sys.exit(done.stderr)
            return done.stdout

        def milliseconds(code: str) -> float:
            began = time.perf_counter()
            python(code)
            return (time.perf_counter() - began) * 1000

        python("import rankzero")
        rounds = in_turns(ROUNDS, lambda: [milliseconds("pass")], lambda: [milliseconds("import rankzero")])
        bare, imported = ([each[0] for each in part] for part in zip(*rounds, strict=True))
        table.show("bare Python, the fastest", min(bare), "ms", digits=1)
        table.show("import rankzero over it, the fastest", min(imported) - min(bare), "ms", IMPORT_LIMIT_MS, digits=1)
        table.show("… the median", median(i - b for b, i in zip(bare, imported, strict=True)), "ms", digits=1)
        heavy = python(f"import sys, rankzero; print(*[name for name in {HEAVY} if name in sys.modules])").split()
        table.show(f"imported of {', '.join(HEAVY)}: {' '.join(heavy) or 'none'}", len(heavy), "", 0, digits=0)
        table.show_noise(bare)
        for loggers in ("'csv'", "['csv', DownLogger(0), DownLogger(1)]"):
            taken = [float(python(START.format(loggers=loggers))) * 1000 for _ in range(ROUNDS + 1)][1:]
            table.show(f"first start({loggers}), the fastest", min(taken), "ms", START_LIMIT_MS, digits=1)
            table.show("… the median", median(taken), "ms", digits=1)
    table.exit()


if __name__ == "__main__":
    main()
