"""The manifest: read, checked against its schema, written."""

import functools
import importlib.resources
import json
from pathlib import Path

import jsonschema

MANIFEST = "manifest.json"
FORMAT = "keras_cascade.bundle"
VERSION = 1


class BundleError(ValueError):
    """A bundle that cannot be used, and why."""


def read_manifest(file):
    """Reads and checks a manifest.

    Args:
        file: path of `manifest.json`.

    Returns:
        Dict that fits the schema of version 1.

    Raises:
        BundleError: missing, not JSON, of a newer version, or not valid.
    """
    file = Path(file)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"Expected a bundle with a readable {MANIFEST} in "
            f"'{file.parent}'. Received: {type(error).__name__}. Is this the "
            "folder that `export` wrote?"
        ) from None
    try:
        manifest = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"'{file}' is not valid JSON: {error}") from None
    check_manifest(manifest, file)
    return manifest


def check_manifest(manifest, where=MANIFEST):
    """Raises a `BundleError` unless `manifest` fits the schema."""
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise BundleError(
            f"'{where}' has version {version}; this keras_cascade reads "
            f"version {VERSION}. Upgrade keras_cascade, or export the bundle "
            "again."
        )
    error = jsonschema.exceptions.best_match(_validator().iter_errors(manifest))
    if error is not None:
        raise BundleError(
            f"'{where}' is not a valid manifest at {error.json_path}: "
            f"{error.message[:300]}"
        )


def write_manifest(manifest, file):
    """Checks a manifest and writes it as indented JSON."""
    check_manifest(manifest)
    text = json.dumps(manifest, indent=2, allow_nan=False)
    Path(file).write_text(text + "\n", encoding="utf-8")


@functools.cache
def _validator():
    schema = importlib.resources.files(__package__).joinpath(
        "manifest.schema.json"
    )
    return jsonschema.Draft202012Validator(
        json.loads(schema.read_text(encoding="utf-8"))
    )


def _refuse_constant(constant):
    raise ValueError(f"{constant} is not a JSON number")
