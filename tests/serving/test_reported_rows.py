"""Delegation rate that edges report to the server."""

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from keras_cascade.runtime import EdgeCascade
from keras_cascade.runtime.teachers.http_teacher import HttpClient

PREFIX = "keras_cascade_reported_"


def reported(url):
    """`(edge rows, rows)` that clients have reported to a server."""
    client = HttpClient(url, 30, 10**6, None, None)
    base = url.partition("/v1/")[0]
    _, content = client.request("GET", f"{base}/metrics")
    client.close()
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
    }
    return np.array(
        [samples[f"{PREFIX}edge_rows_total"], samples[f"{PREFIX}rows_total"]]
    )


@pytest.mark.parametrize("protocol", ["v1", "v2", "grpc"])
def test_the_server_counts_reported_rows(server, bundle_path, blobs, protocol):
    x, _ = blobs(150)
    url = {
        "v1": server.url,
        "v2": server.url.replace("/v1/", "/v2/"),
        "grpc": server.grpc_url,
    }[protocol]
    before = reported(server.url)
    with EdgeCascade.load(
        bundle_path, teacher=url, on_failure="raise", max_rows=7
    ) as edge:
        sources = [edge.predict(x[:149]).source, edge.predict(x[149]).source]
    source = np.concatenate(sources)
    edge_rows, rows = reported(server.url) - before
    assert rows == (source == "cloud").sum()
    # Rows answered on the edge after the last request are not reported yet.
    unreported = int(source[149] == "edge")
    assert edge_rows == 150 - unreported
