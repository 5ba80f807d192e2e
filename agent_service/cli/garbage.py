"""The garbage collector, told what a server is: much that stays, and little that has to be looked for."""

from __future__ import annotations

import gc

SETTLED_SECONDS = 6.0
"""By then all is imported that requests and runs need."""
_YOUNG = (10_000, 20, 20)
"""Objects after which new ones are looked through, and how many times that until the older ones are."""


def settle() -> None:
    """Take everything there is now out of the collector's sight.

    Of what a request makes hardly anything is in cycles, so the collector finds little; but each full search
    went through 200,000 objects of imported modules. That was a fifth of the CPU of streaming, and every
    request that met it waited for a tenth of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_YOUNG)
