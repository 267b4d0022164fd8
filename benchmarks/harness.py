"""Command-line options, timing and JSON output of the benchmarks."""

import argparse
import datetime
import json
import os
import platform
import statistics
import time

import keras

from keras_cascade.version import __version__


def options(description, data=False, minutes=False, post_training=False):
    """Parses `--json`, `--quick` and the options that are requested."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--json", action="store_true", help="one JSON object on stdout"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller: checks that it runs"
    )
    if data:
        parser.add_argument(
            "--data", metavar="FOLDER", help="where the data set's files are"
        )
    if minutes:
        parser.add_argument("--minutes", type=float, help="how long")
    if post_training:
        parser.add_argument(
            "--post-training",
            action="store_true",
            help="only the modes that do not train",
        )
    return parser.parse_args()


def seconds(function):
    """Returns the duration of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(contestants, rounds):
    """Runs every contestant once per round, in turn.

    Args:
        contestants: dict of name to function.
        rounds: int.

    Returns:
        Dict of name to list of seconds.
    """
    times = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            times[name].append(seconds(function))
    return times


def medians(times):
    """Returns a dict of name to the median of its times."""
    return {name: statistics.median(values) for name, values in times.items()}


def show(result, as_json):
    """Prints the result with the machine and the date."""
    result = {
        **result,
        "machine": {
            "cores": os.cpu_count(),
            "processor": platform.machine(),
            "python": platform.python_version(),
            "keras": keras.__version__,
            "keras_cascade": __version__,
        },
        "date": datetime.date.today().isoformat(),
    }
    if as_json:
        print(json.dumps(result, indent=2))
        return
    for name, value in result.items():
        print(f"{name}: {value}")
