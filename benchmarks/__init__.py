"""Benchmarks: Hanse beside one plain PostgreSQL in the same minutes, on the same machine, with the same settings."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
for _place in (ROOT, ROOT / "tests"):  # tests/support starts servers
    if str(_place) not in sys.path:
        sys.path.insert(0, str(_place))
