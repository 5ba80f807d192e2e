"""What a settled server leaves to the garbage collector."""

from __future__ import annotations

import subprocess
import sys

SETTLE = """
import gc
from agent_service.cli.garbage import settle

kept = [[number] for number in range(50_000)]
settle()
assert gc.get_freeze_count() > 50_000
assert len(gc.get_objects()) < 1_000

class Knot:
    pass

knot = Knot()
knot.itself = knot
del knot
assert gc.collect() > 0
"""


def test_what_stays_is_not_looked_at_again_and_new_cycles_are_found() -> None:
    subprocess.run([sys.executable, "-P", "-c", SETTLE], check=True, timeout=60)
