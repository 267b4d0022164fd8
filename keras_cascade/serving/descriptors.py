"""File descriptors: limit of the process and shares of the protocols."""

import dataclasses
import os

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: For the log, a reload of the bundle (the SavedModel's files, read by
#: several threads), TensorFlow and sockets in transit.
RESERVED = 96
#: What a request that must be refused needs: room to read its head.
HEADROOM = 32


def raise_descriptor_limit():
    """Raises the soft limit of open files to the hard one.

    Returns:
        int, the limit, or `None` where there is none.
    """
    if resource is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):  # macOS: "unlimited" is refused
            pass
    return None if soft == resource.RLIM_INFINITY else soft


def descriptors_in_use():
    """Returns the number of open descriptors of this process."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder))
        except OSError:
            continue
    return 64


@dataclasses.dataclass(frozen=True)
class ConnectionBudget:
    """Connections and requests that the descriptors allow.

    Attributes:
        http: int, HTTP connections.
        grpc: int, gRPC connections.
        requests: int, HTTP requests in progress.
    """

    http: int
    grpc: int
    requests: int

    @classmethod
    def of(cls, limits, limit, in_use):
        """Divides the descriptors between the two protocols.

        As many connections may be silent as may have a request in progress.

        Args:
            limits: `Limits`.
            limit: int or `None`, the process's limit of descriptors.
            in_use: int, descriptors that are open already.

        Raises:
            OSError: too few descriptors to serve anything.
        """
        wanted = 2 * limits.max_connections + HEADROOM
        share = wanted
        if limit is not None:
            share = min(wanted, (limit - in_use - RESERVED) // 2)
        if share <= HEADROOM:
            raise OSError(
                f"Expected at least {in_use + RESERVED + 2 * HEADROOM + 2} "
                f"file descriptors. This process may open {limit}. Raise the "
                "limit: `ulimit -n 65536`, or `LimitNOFILE` of systemd."
            )
        requests = min(limits.max_connections, share - HEADROOM)
        return cls(http=share, grpc=share, requests=requests)
