"""Reading, validating and writing of manifests."""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
import json
import math
import os
import re
import uuid
from pathlib import Path

import jsonschema

from keras_cascade.bundle.files import read_file
from keras_cascade.errors import BundleError
from keras_cascade.utils.earlier_names import current_names

MANIFEST = "manifest.json"
#: The file with the manifest's signature, beside it and not listed in it.
SIGNATURE = f"{MANIFEST}.sig"
FORMAT = "keras_cascade.bundle"
VERSION = 1
#: Of manifests with a `task`: a reader of version 1 would take such a bundle
#: for a classifier, and refuses a higher version than its own.
TASK_VERSION = 2
#: Counts additions that an earlier reader of the same version can ignore.
MINOR_VERSION = 2
#: The key under which a manifest has its own hash.
SEAL = "sha256"
#: Lists of more elements are not checked, nor written, one by one.
LONG = 256
MAX_BYTES = 16 * 1024 * 1024


def read_manifest(file: str | os.PathLike) -> dict:
    """Reads and validates a manifest.

    Args:
        file: path of `manifest.json`.

    Returns:
        Dict that fits the schema.

    Raises:
        BundleError: missing, not JSON, of a newer version, not valid, or
            altered since it was written.
    """
    return parse_manifest(manifest_content(file), file)


def manifest_content(file: str | os.PathLike) -> bytes:
    """Reads a manifest's bytes once, to be hashed and parsed.

    Raises:
        BundleError: missing, no file, or longer than any manifest.
    """
    file = Path(file)
    try:
        raw, _ = read_file(file, MAX_BYTES + 1)
    except OSError as error:
        raise _unreadable(file, error) from None
    if len(raw) > MAX_BYTES:
        raise BundleError(
            f"Expected a {MANIFEST} of at most {MAX_BYTES} bytes. "
            f"Received: '{file}', which is longer."
        )
    return raw


def parse_manifest(raw: bytes, file: str | os.PathLike) -> dict:
    """Parses and validates the bytes of a manifest.

    Args:
        raw: bytes, as `manifest_content` returned them.
        file: path that they are from, for errors.

    Returns:
        Dict that fits the schema.

    Raises:
        BundleError: not JSON, of a newer version, not valid, or altered
            since it was written.
    """
    file = Path(file)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _unreadable(file, error) from None
    try:
        manifest = _parsed(text, file)
        current = current_names(manifest)
        check_manifest(current, file)
        sealed = SEAL not in manifest or manifest[SEAL] == seal(manifest)
    except RecursionError:
        raise BundleError(
            f"'{file}' is not a valid manifest: it is nested too deeply."
        ) from None
    if not sealed:
        raise BundleError(
            f"'{file}' was altered since it was written. Expected: the "
            f"content whose SHA-256 it has under '{SEAL}'. Export or copy the "
            f"bundle again; after a change of your own, remove '{SEAL}'."
        )
    return current


def check_manifest(manifest: dict, where: str | os.PathLike = MANIFEST) -> None:
    """Raises a `BundleError` unless `manifest` fits the schema."""
    version = manifest.get("version") if isinstance(manifest, dict) else None
    if isinstance(version, int) and version > TASK_VERSION:
        raise BundleError(
            f"'{where}' has version {version}; this keras_cascade reads "
            f"versions {VERSION} and {TASK_VERSION}. Upgrade keras_cascade, or "
            "export the bundle again."
        )
    if _validator().is_valid(_shortened(manifest)):
        return
    error = jsonschema.exceptions.best_match(_validator().iter_errors(manifest))
    if error is not None:
        raise BundleError(
            f"'{where}' is not a valid manifest at {error.json_path}: "
            f"{error.message[:300]}"
        )


def write_manifest(manifest: dict, file: str | os.PathLike) -> None:
    """Validates a manifest and writes it as JSON, with its own hash."""
    Path(file).write_text(manifest_text(manifest), encoding="utf-8")


def manifest_text(manifest: dict) -> str:
    """Validates a manifest and returns it as JSON, with its own hash.

    Args:
        manifest: dict; a hash that it has already is replaced.

    Raises:
        BundleError: it does not fit the schema.
    """
    check_manifest(manifest)
    # Hashed as it will be read: JSON has no keys but strings.
    manifest = json.loads(json.dumps(manifest, allow_nan=False))
    manifest[SEAL] = seal(manifest)
    return _text(manifest) + "\n"


def seal(manifest: dict) -> str:
    """Computes the SHA-256 of a manifest, apart from its own hash.

    It finds damage and careless edits. It is no signature: whoever rewrites a
    bundle can write the hash that goes with it.
    """
    rest = {key: value for key, value in manifest.items() if key != SEAL}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _shortened(value, key=None):
    """A value whose schema is checked in the place of a manifest's.

    The validator takes 10 µs per number, and thousands of classes have
    hundreds of thousands of them. A list of numbers keeps the extremes and a
    fraction, if it has one: type and limits of all hold where they hold of
    these. Of `classes`, whose only limit is the type, two are kept.
    """
    if isinstance(value, dict):
        return {name: _shortened(one, name) for name, one in value.items()}
    if not isinstance(value, list):
        return value
    types = set(map(type, value)) if len(value) > LONG else set()
    if types and types <= {int, float}:
        fractions = (one for one in value if one % 1)
        return [min(value), max(value), next(fractions, max(value)), value[0]]
    if types == {str} and key == "classes":
        return value[:2]
    return [_shortened(one) for one in value]


def _text(manifest):
    """JSON, indented; a long list of numbers is one line."""
    lists, mark = [], uuid.uuid4().hex

    def marked(value):
        if isinstance(value, dict):
            return {name: marked(one) for name, one in value.items()}
        if not isinstance(value, list):
            return value
        if len(value) > LONG and set(map(type, value)) <= {int, float}:
            lists.append(json.dumps(value))
            return f"{mark}{len(lists) - 1}"
        return [marked(one) for one in value]

    return re.sub(
        f'"{mark}([0-9]+)"',
        lambda match: lists[int(match[1])],
        json.dumps(marked(manifest), indent=2),
    )


def _parsed(text, file):
    try:
        return json.loads(
            text,
            parse_constant=_reject_number,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_without_repeats,
        )
    except ValueError as error:
        raise BundleError(f"'{file}' is not valid JSON: {error}") from None


def _unreadable(file, error):
    return BundleError(
        f"Expected a bundle with a readable {MANIFEST} in '{file.parent}'. "
        f"Received: {type(error).__name__}. Is this the folder that `export` "
        "wrote?"
    )


@functools.cache
def _validator():
    schema = importlib.resources.files(__package__).joinpath(
        "manifest.schema.json"
    )
    return jsonschema.Draft202012Validator(
        json.loads(schema.read_text(encoding="utf-8"))
    )


def _without_repeats(pairs):
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated!r} stands there twice")
    return values


def _finite(text):
    number = float(text)
    return number if math.isfinite(number) else _reject_number(text)


def _whole(text):
    # Other JSON readers would round larger numbers.
    number = int(text) if len(text) < 20 else None
    if number is None or abs(number) > 2**53:
        _reject_number(text)
    return number


def _reject_number(text):
    raise ValueError(f"{text[:30]} is not a JSON number that can be read")
