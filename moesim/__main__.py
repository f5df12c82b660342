"""``python -m moesim`` is the command ``moesim``."""

from __future__ import annotations

import sys

from moesim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
