"""Checks the figures of `docs/serving.md`."""

import json

from tests.helpers.documents import ROOT

TEXT = " ".join((ROOT / "docs/serving.md").read_text("utf-8").split())
FIGURES = json.loads((ROOT / "docs/benchmarks/faults.json").read_text("utf-8"))


def test_goodput():
    """The sentence on `benchmarks.faults.overload`, number by number."""

    def shares(protocol):
        goodput = FIGURES["goodput_over_capacity"][protocol]
        return ", ".join(f"{goodput[load]:.2f}" for load in ("1x", "2x", "10x"))

    assert (
        "At one, two and ten times its capacity the server answers, in "
        f"time, {shares('http')} of its capacity over HTTP and "
        f"{shares('grpc')} over gRPC"
    ) in TEXT
