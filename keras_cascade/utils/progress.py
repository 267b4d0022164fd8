"""Progress messages, shown at a terminal or in a notebook only."""

import contextlib
import sys
import time

#: Seconds between two messages.
INTERVAL = 5.0

_state = {"enabled": True}


def disable():
    """Turns progress messages off for this process."""
    _state["enabled"] = False


@contextlib.contextmanager
def progress_shown(verbose=None):
    """Shows progress within a block as Keras's argument `verbose` asks.

    Args:
        verbose: bool or int. `False` or 0 shows none. Defaults to `None`: as
            outside of the block.
    """
    before = _state["enabled"]
    _state["enabled"] = before and (verbose is None or bool(verbose))
    try:
        yield
    finally:
        _state["enabled"] = before


def tell(text):
    """Prints a message before a long operation."""
    if _people():
        print(text, flush=True)


def counted(items, what, rows_of):
    """Yields items and reports progress every few seconds.

    An operation of less than 5 s prints nothing.

    Args:
        items: iterable.
        what: str, the operation, such as `"Asking the teacher"`.
        rows_of: function from an item to its number of examples.
    """
    begun = said = time.monotonic()
    rows = 0
    for item in items:
        yield item
        rows += rows_of(item)
        now = time.monotonic()
        if now - said >= INTERVAL and _people():
            said = now
            line = f"{what}: {rows:,} examples in {now - begun:.0f} s"
            print(f"\r{line}", end="", flush=True)
    if said != begun:
        print(flush=True)


def _people():
    return _state["enabled"] and (
        "ipykernel" in sys.modules or sys.stdout.isatty()
    )
