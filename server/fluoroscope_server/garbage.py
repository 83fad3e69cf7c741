"""Python's garbage collector, kept from what stays.

A full collection looks at every object that there is. JAX, a network and its traces are hundreds of thousands of them:
every thread would stand still for a tenth of a second, in the middle of whatever is asked.
"""

from __future__ import annotations

import gc


def set_aside() -> None:
    """Collects what is garbage now, and keeps later collections from what is left, until `look_again`."""
    gc.collect()
    gc.freeze()


def look_again() -> None:
    """Collects what is garbage, of what was set aside, too; and sets aside what is left.

    Needed when something large was let go: what belongs to a cycle is found in no other way.
    """
    gc.unfreeze()
    set_aside()
