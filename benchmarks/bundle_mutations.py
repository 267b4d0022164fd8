"""Random mutations of bundles.

Files are replaced, never written into: a copy may share its files with the
bundle that it is a copy of.
"""

import copy
import hashlib
import json
import os
import shutil

from keras_cascade.bundle.manifest import MANIFEST, SEAL, seal

EVIL_PATHS = (
    "../student.tflite", "/etc/passwd", "a/../../b", "teacher/1", ".", "",
    "student.tflite/", "./student.tflite", "manifest.json", "a\\..\\b",
    "\0", "x\0y", "\ud800", "x" * 300, "x/" * 3000, "~/x", "C:\\x",
    "STUDENT.TFLITE", "student.tflite\n", "README.md", "/dev/zero",
)  # fmt: skip
HUGE = ("9" * 5000, "1e999", "-1e999", "1" + "0" * 400, "1e308", "9" * 18)
VALUES = (
    None, True, False, 0, -1, 1.5, 2**31, 2**53, "", "x", "NaN", [], {},
    [None], [[]], {"x": 1}, "\ud800", "x" * 100_000, [0] * 10_000,
    "float64", "string", "int8", "default",
)  # fmt: skip
VERSIONS = (0, 2, 1.5, -1, "1", None, True, [1], 10**9)


def files_of(folder):
    """Returns the relative paths of the regular files in a folder."""
    return sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.is_file() and not file.is_symlink()
    )


def replace(file, raw):
    """Replaces a file by a new one."""
    file.unlink(missing_ok=True)
    file.write_bytes(raw)


def corrupted(raw, rng):
    """Returns bytes with some of them changed, removed or added."""
    raw = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        # Half of the positions lie in a file's header.
        reach = rng.choice((len(raw), min(len(raw), 600)))
        at = rng.randrange(reach + 1)
        size = rng.choice((1, 1, 1, 4, 64))
        kind = rng.choice(("flip", "flip", "flip", "random", "cut", "add"))
        if kind == "flip" and at < len(raw):
            raw[at] ^= 1 << rng.randrange(8)
        elif kind == "random":
            raw[at : at + size] = rng.randbytes(size)
        elif kind == "cut":
            del raw[at : at + size]
        elif kind == "add":
            raw[at:at] = rng.randbytes(size)
    return bytes(raw)


def mutate_file(folder, rng, other):
    """Mutates the files of a bundle, and leaves the manifest as it is.

    Args:
        folder: `Path` of a bundle's copy.
        rng: `random.Random`.
        other: `Path` of another valid bundle.

    Returns:
        str, a description of the mutation.
    """
    name = rng.choice([*files_of(folder), "student.tflite", MANIFEST])
    file = folder / name
    kind = rng.choice(_FILE_KINDS)
    if name == MANIFEST and kind not in _REPLACED:
        name, file = "student.tflite", folder / "student.tflite"
    raw = file.read_bytes()
    if kind == "spoiled":
        replace(file, corrupted(raw, rng))
    elif kind == "truncated":
        replace(file, raw[: rng.randrange(len(raw))])
    elif kind == "emptied":
        replace(file, b"")
    elif kind == "of another bundle":
        taken = other / name
        replace(file, taken.read_bytes() if taken.exists() else b"x")
    elif kind == "removed":
        file.unlink()
    elif kind == "exchanged":
        second = folder / rng.choice(files_of(folder))
        changed = second.read_bytes()
        replace(second, raw)
        replace(file, changed)
    elif kind == "renamed":
        file.rename(file.with_name(rng.choice((name[-3:] + "x", "a", ".a"))))
    elif kind in _REPLACED:
        _put_in_place(kind, file, raw, rng)
    elif kind == "file added":
        parent = rng.choice((folder, folder / "teacher", file.parent))
        added = rng.choice((".x", "x", "student.tflite.bak", "é", "run.sh"))
        replace(parent / added, rng.choice((b"", raw, b"#!/bin/sh\n")))
    elif kind == "folder added":
        (folder / rng.choice(("empty", "teacher/2", "a/b/c"))).mkdir(
            parents=True
        )
    elif kind == "folder removed":
        name = rng.choice(("teacher", "teacher/1", "teacher/1/variables"))
        shutil.rmtree(folder / name)
    elif kind == "folder linked":
        name = rng.choice(("teacher", "teacher/1", "teacher/1/variables"))
        shutil.rmtree(folder / name)
        (folder / name).symlink_to(other / name)
    return f"{name}: {kind}"


_REPLACED = ("link to a copy", "link to another", "link to itself", "a folder",
             "a pipe")  # fmt: skip
_FILE_KINDS = (
    *["spoiled"] * 8, *["truncated"] * 2, "emptied", "of another bundle",
    "removed", "exchanged", "renamed", *_REPLACED, "file added",
    "folder added", "folder removed", "folder linked",
)  # fmt: skip


def _put_in_place(kind, file, raw, rng):
    file.unlink()
    if kind == "link to a copy":
        elsewhere = file.parent / ".copy"
        elsewhere.write_bytes(raw)
        file.symlink_to(elsewhere.name)
    elif kind == "link to another":
        file.symlink_to(rng.choice(("/dev/null", "README.md", "nothing")))
    elif kind == "link to itself":
        file.symlink_to(file.name)
    elif kind == "a folder":
        file.mkdir()
        if rng.random() < 0.5:
            (file / "x").write_bytes(raw)
    else:
        os.mkfifo(file)


def mutate_manifest(folder, rng, rewritten=False):
    """Mutates the manifest.

    Args:
        folder: `Path` of a bundle's copy.
        rng: `random.Random`.
        rewritten: bool. Valid JSON, with the hash of its new content.
            Defaults to `False`.

    Returns:
        str, a description of the mutation.
    """
    file = folder / MANIFEST
    text = file.read_text(encoding="utf-8")
    if not rewritten and rng.random() < 0.4:
        kind = rng.choice(sorted(_TEXT_KINDS))
        replace(file, _TEXT_KINDS[kind](text, rng))
        return f"{MANIFEST}: {kind}"
    manifest = json.loads(text)
    done = [_change(manifest, rng) for _ in range(rng.choice((1, 1, 1, 3)))]
    if rewritten and isinstance(manifest, dict):
        manifest[SEAL] = seal(manifest)
    text = json.dumps(manifest)
    if not rewritten and rng.random() < 0.2:
        text = text.replace(": 10000", ": " + rng.choice(HUGE))
        done.append("huge numbers")
    replace(file, text.encode())
    return f"{MANIFEST}: {', '.join(done)}"


def mutate_and_rewrite(folder, rng, other):
    """Mutates files and writes their new hashes into the manifest.

    Args:
        folder: `Path` of a bundle's copy.
        rng: `random.Random`.
        other: `Path` of another valid bundle.

    Returns:
        str, a description of the mutation.
    """
    if rng.random() < 0.4:
        return mutate_manifest(folder, rng, rewritten=True)
    name = rng.choice(["student.tflite"] * 4 + files_of(folder))
    if name == MANIFEST:
        name = "student.tflite"
    raw = (folder / name).read_bytes()
    kind = rng.choice(("spoiled",) * 6 + ("truncated", "other", "noise"))
    new = {
        "spoiled": lambda: corrupted(raw, rng),
        "truncated": lambda: raw[: rng.randrange(len(raw))],
        "other": lambda: (folder / rng.choice(files_of(folder))).read_bytes(),
        "noise": lambda: rng.randbytes(rng.choice((1, 8, 1000))),
    }[kind]()
    replace(folder / name, new)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    old, changed = (hashlib.sha256(one).hexdigest() for one in (raw, new))
    text = json.dumps(manifest).replace(old, changed)
    manifest = json.loads(text)
    manifest["student"]["bytes"] = (folder / "student.tflite").stat().st_size
    manifest[SEAL] = seal(manifest)
    replace(folder / MANIFEST, json.dumps(manifest).encode())
    return f"{name}: {kind}, its hash too"


def _change(manifest, rng):
    """Mutates one value of the manifest; returns a description."""
    containers = [((), manifest), *_containers(manifest)]
    path, holder = rng.choice([p for p in containers if p[1]])
    key = rng.choice(
        list(holder) if isinstance(holder, dict) else range(len(holder))
    )
    where = ".".join(map(str, (*path, key)))
    kind = rng.choice(("removed", "value", "value", "path", "copied", "deep"))
    if kind == "removed":
        del holder[key]
    elif key == "version" and not path:
        holder[key] = rng.choice(VERSIONS)
    elif kind == "value":
        holder[key] = copy.deepcopy(rng.choice(VALUES))
    elif kind == "path":
        holder[key] = rng.choice(EVIL_PATHS)
    elif kind == "copied":
        _, source = rng.choice([p for p in containers if p[1]])
        values = source.values() if isinstance(source, dict) else source
        holder[key] = copy.deepcopy(rng.choice(list(values)))
    else:
        deep = []
        for _ in range(rng.choice((50, 300, 450, 600, 900))):
            deep = [deep]
        holder[key] = deep
    return f"{where} {kind}"


def _containers(value, path=()):
    """Yields every dict and list below, with its path."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, (dict, list)):
            yield (*path, key), inner
            yield from _containers(inner, (*path, key))


def _doubled(text, rng):
    """Returns JSON with one key of the first level repeated."""
    key = rng.choice(list(json.loads(text)))
    added = f'"{key}": {json.dumps(rng.choice(VALUES))}'
    if rng.random() < 0.5:
        return text.replace("{", f"{{{added},", 1).encode()
    return (text.rstrip()[:-1] + f", {added}}}").encode()


def _deep(text, rng):
    depth = 10 ** rng.choice((2, 3, 5))
    deep = "[" * depth + "]" * depth
    return text.replace("{", f'{{"x": {deep},', 1).encode()


_TEXT_KINDS = {
    "spoiled": lambda text, rng: corrupted(text.encode(), rng),
    "truncated": lambda text, rng: text.encode()[: rng.randrange(len(text))],
    "key doubled": _doubled,
    "number not a number": lambda text, rng: text.replace(
        "1.0", rng.choice(("NaN", "Infinity", "-Infinity", *HUGE))
    ).encode(),
    "UTF-16": lambda text, rng: text.encode("utf-16"),
    "byte order mark": lambda text, rng: b"\xef\xbb\xbf" + text.encode(),
    "deep": _deep,
    "twice": lambda text, rng: 2 * text.encode(),
    "no object": lambda text, rng: rng.choice(
        (b"[]", b"null", b"1", b"", b"\"x\"", b"{}", f"[{text}]".encode())
    ),
    "longer than memory": lambda text, rng: b" " * 20_000_000 + text.encode(),
}  # fmt: skip
