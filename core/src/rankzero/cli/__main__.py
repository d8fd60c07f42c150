"""``python -m rankzero.cli``: the command line, where the script ``rankzero`` is not on the path."""

import sys

from rankzero.cli.app import main

sys.exit(main())
