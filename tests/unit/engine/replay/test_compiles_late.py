"""A first run waits for what it needs to be compiled, and for nothing else."""

import subprocess
import sys

IMPORTED = """
import sys
import moesim.engine.replay.run, moesim.engine.replay.prefetch.clock
from numba.core.registry import CPUDispatcher
ours = [vars(module) for name, module in sys.modules.items() if name.startswith("moesim.")]
found = {one.__qualname__: one for names in ours for one in names.values()
         if isinstance(one, CPUDispatcher)}
print(len(found), *[name for name, one in found.items() if one.signatures])
"""


def test_nothing_is_compiled_or_loaded_when_it_is_imported():
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
    )
    number, *compiled = ran.stdout.split()
    assert int(number) > 40
    assert compiled == []
