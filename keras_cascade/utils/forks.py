"""State and native handles that a forked child inherits from its parent."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from typing import Any

_owners: weakref.WeakSet = weakref.WeakSet()
_handles: weakref.WeakSet = weakref.WeakSet()
# Reentrant: a signal handler may fork in the middle of `never_free_in_forks`.
_lock = threading.RLock()
_kept = threading.local()


def reset_in_child(owner: Any) -> None:
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


def never_free_in_forks(handle: Any) -> None:
    """Keeps a handle alive in every child that is forked from this process.

    Freeing it would act on what the parent still uses, or on threads that did
    not survive the fork: SQLite deletes the parent's write-ahead log, and
    LiteRT waits for its thread pool. Garbage collection, `sys.exit` and the
    end of a thread free objects, so that no reference in Python is enough:
    the child holds one reference that nothing gives back.

    Args:
        handle: object that can be referenced weakly. In this process it is
            freed as usual.
    """
    with _lock:
        _handles.add(handle)


def _before_fork():
    # Before the fork, as the child frees the local variables of threads that
    # it lacks earlier than it runs any hook.
    _lock.acquire()
    _kept.handles = list(_handles)
    for handle in _kept.handles:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(handle))


def _after_fork_in_parent():
    for handle in _kept.handles:
        ctypes.pythonapi.Py_DecRef(ctypes.py_object(handle))
    del _kept.handles
    _lock.release()


def _after_fork_in_child():
    del _kept.handles
    _lock.release()
    for owner in list(_owners):
        owner.reset_in_child()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
