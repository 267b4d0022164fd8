"""Prometheus metrics of the server."""

import functools

import prometheus_client as prometheus

from keras_cascade.serving.connections import PHASES

PREFIX = "keras_cascade"
SECONDS = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10,
    30, 60,
)  # fmt: skip
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class ServerMetrics:
    """Counters and histograms in a separate Prometheus registry.

    `keras_cascade_reported_rows_total` over
    `keras_cascade_reported_edge_rows_total` is the delegation rate **as
    clients report it** with the header `x-cascade-rows`; requests without
    the header count in neither.

    Args:
        registry: `prometheus_client.CollectorRegistry`. Defaults to `None`,
            a new one.
    """

    def __init__(self, registry=None):
        self.registry = registry or prometheus.CollectorRegistry()
        self.requests = self._counter(
            "requests", "Requests that were answered.", "protocol", "status"
        )
        self.rows = self._counter(
            "rows", "Rows that the teacher answered.", "protocol"
        )
        self.reported_edge_rows = self._counter(
            "reported_edge_rows", "Rows that clients say their edge has seen."
        )
        self.reported_rows = self._counter(
            "reported_rows", "Rows of the requests that said so."
        )
        self.reloads = self._counter(
            "reloads", "New bundles: taken over or refused.", "outcome"
        )
        self.request_seconds = self._histogram(
            "request_seconds",
            "From a request's headers to its answer.",
            SECONDS,
            "protocol",
        )
        self.queue_seconds = self._histogram(
            "queue_seconds", "What a request waits for its run.", SECONDS
        )
        self.teacher_seconds = self._histogram(
            "teacher_seconds", "One run of the teacher.", SECONDS
        )
        self.batch_rows = self._histogram(
            "batch_rows", "Rows in one run of the teacher.", ROWS
        )
        self.queued_rows = prometheus.Gauge(
            f"{PREFIX}_queued_rows",
            "Rows that wait for a run.",
            registry=self.registry,
        )
        self.closed_connections = self._counter(
            "closed_connections",
            "HTTP connections that the server closed of its own accord.",
            "reason",
        )

    def watch(self, connections):
        """Adds a gauge of the HTTP connections per phase.

        Args:
            connections: `ConnectionTable`.
        """
        gauge = prometheus.Gauge(
            f"{PREFIX}_open_connections",
            "HTTP connections, by what they wait for.",
            ("phase",),
            registry=self.registry,
        )
        for phase in PHASES:
            gauge.labels(phase).set_function(
                functools.partial(connections.size, phase)
            )

    def text(self):
        """Returns the metrics in Prometheus's text format, as bytes."""
        return prometheus.generate_latest(self.registry)

    def _counter(self, name, text, *labels):
        return prometheus.Counter(
            f"{PREFIX}_{name}", text, labels, registry=self.registry
        )

    def _histogram(self, name, text, buckets, *labels):
        return prometheus.Histogram(
            f"{PREFIX}_{name}",
            text,
            labels,
            buckets=buckets,
            registry=self.registry,
        )
