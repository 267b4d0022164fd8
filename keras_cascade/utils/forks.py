"""State that a forked child process does not share with its parent."""

import os
import weakref

_owners: weakref.WeakSet = weakref.WeakSet()


def reset_in_child(owner) -> None:
    """Lets an object drop what it inherited, in every forked child.

    A fork copies sockets, locks and the books of thread pools, but of the
    threads only one. Two processes that use one connection read each other's
    answers, and a copied lock may be held for ever.

    Args:
        owner: object with `reset_in_child()`, which is called in the child
            before anything else runs there. It must take no lock of the
            parent's. Kept by a weak reference.
    """
    _owners.add(owner)


def _reset_all():
    for owner in list(_owners):
        owner.reset_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_reset_all)
