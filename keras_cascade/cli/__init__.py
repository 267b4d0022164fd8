"""Command-line interface `keras-cascade`."""
