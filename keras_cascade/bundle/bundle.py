"""Bundles on disk: every file is checked against the manifest."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from keras_cascade.bundle.files import copy_file, hash_file, read_file
from keras_cascade.bundle.manifest import (
    MANIFEST,
    SIGNATURE,
    manifest_content,
    parse_manifest,
)
from keras_cascade.bundle.writing import private_folder
from keras_cascade.errors import BundleError
from keras_cascade.utils.answer_form import AnswerForm

__all__ = ["Bundle", "BundleError", "hash_file"]

HEX = "[0-9a-fA-F]{64}"
#: Kind of a teacher elsewhere that devices ask at its URL.
URL = "Url"
#: Tries to read a bundle that is exchanged while it is read.
ATTEMPTS = 5


class Bundle:
    """A bundle on disk, checked against its manifest.

    Use `Bundle.load(path)`. A device's copy may lack the teacher, as a whole,
    and the ONNX files; everything else must be there.

    A bundle on disk may be exchanged or altered at any time. What is used is
    what was hashed: `read` and `teacher_copy` return bytes that have the
    hashes of this manifest, whatever is on disk by then.

    Attributes:
        path: `Path` of the bundle's folder.
        manifest: dict, as in `manifest.json`.
        manifest_sha256: str, the hash of `manifest.json`, which lists the
            hashes of all other files; `None` unless it was loaded.
    """

    def __init__(
        self, path: Path, manifest: dict, manifest_sha256: str | None = None
    ):
        self.path = path
        self.manifest = manifest
        self.manifest_sha256 = manifest_sha256
        self._kept: dict[str, bytes] = {}
        self._absent: set[str] = set()

    def __repr__(self) -> str:
        return f"Bundle('{self.path}')"

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        *,
        sha256: str | None = None,
        public_key: str | os.PathLike | bytes | None = None,
    ) -> Bundle:
        """Opens a bundle and checks every file that its manifest lists.

        Args:
            path: str or path of the bundle's folder.
            sha256: str, the SHA-256 that `manifest.json` must have, in hex:
                `keras-cascade verify` prints it. Defaults to `None`: any.
            public_key: path of an Ed25519 public key (PEM), or its content
                as bytes, that the bundle must be signed for. Defaults to
                `None`: a signature is not looked at.

        Returns:
            `Bundle`.

        Raises:
            BundleError: there is no bundle, its manifest is not valid, a
                file is missing, altered, linked or not listed, or it is not
                the bundle that was pinned or signed.
            ImportError: `public_key` is given without `cryptography`.
        """
        pin = None if sha256 is None else _checked_pin(sha256)
        key = None
        if public_key is not None:
            # Not before: a device without a key needs no cryptography.
            from keras_cascade.bundle.signature import PublicKey

            key = PublicKey.read(public_key)
        root = Path(path)
        attempts = ATTEMPTS
        while True:
            if not root.is_dir():
                raise BundleError(
                    f"Expected a bundle's folder. There is none at '{path}'."
                )
            folder = root.resolve()
            before = _identity(folder)
            try:
                return cls._opened(folder, pin, key)
            except BundleError:
                # Exchanged meanwhile: files of both may have been read.
                attempts -= 1
                same = root.resolve() == folder and _identity(folder) == before
                if same or not attempts:
                    raise

    @classmethod
    def _opened(cls, folder, pin, key):
        bundle = cls(folder, {})
        file = bundle._inside(MANIFEST)
        raw = manifest_content(file)
        bundle.manifest_sha256 = hashlib.sha256(raw).hexdigest()
        # Before anything of it is parsed.
        if pin is not None and bundle.manifest_sha256 != pin:
            raise BundleError(
                f"'{folder}' is not the bundle that was pinned. Expected: a "
                f"{MANIFEST} with SHA-256 {pin[:12]}.... Received: "
                f"{bundle.manifest_sha256[:12]}.... Install the bundle that "
                "the hash is of, or pin this one's."
            )
        if key is not None:
            key.check(raw, bundle._inside(SIGNATURE))
        bundle.manifest = parse_manifest(raw, file)
        bundle._check_all()
        return bundle

    def verify(self) -> None:
        """Compares every listed file on disk with its hash.

        Raises:
            BundleError: a file is missing, altered, linked or not listed.
        """
        self._check_names()
        for name, sha256 in self._listed().items():
            if name not in self._absent:
                self._content(name, sha256, hash_file)

    def read(self, name: str) -> bytes:
        """Returns the content of a listed file, which has its hash.

        The student's file and tokenizers were read when the bundle was
        opened, and are kept; others are read now, once, and hashed.

        Args:
            name: str, the file's path in the bundle, as in the manifest.

        Raises:
            BundleError: it is not listed, missing, or was altered.
        """
        if name in self._kept:
            return self._kept[name]
        listed = self._listed()
        if name not in listed:
            raise BundleError(
                f"Expected a file that the manifest of '{self.path}' lists. "
                f"Received: {name!r}."
            )
        return self._content(name, listed[name], read_file)

    @contextlib.contextmanager
    def teacher_copy(self) -> Iterator[Path]:
        """Copies the SavedModel to a private folder, hashed on the way.

        TensorFlow opens a SavedModel by its path, at its leisure. No other
        user can read or write the copy, which lies where `tempfile` puts
        files (`TMPDIR`). It is removed when the block ends.

        Yields:
            `Path` of the copy.

        Raises:
            BundleError: the bundle holds no teacher, or a file of it is
                missing or was altered.
        """
        if self.teacher_folder is None:
            raise BundleError(self.lacks_teacher())
        with private_folder("keras-cascade-teacher-") as folder:
            copy = folder / self.teacher_folder.name
            prefix = PurePosixPath(self.manifest["teacher"]["path"])
            for name, sha256 in self._teacher_files().items():
                target = copy / PurePosixPath(name).relative_to(prefix)
                self._content(name, sha256, functools.partial(_copy, target))
            yield copy

    @property
    def student_file(self) -> Path:
        """Path of the TFLite file, of one row where it is portable."""
        return self._inside(self.manifest["student"]["file"])

    @property
    def batch_student_file(self) -> Path:
        """Path of the TFLite file for any number of rows.

        `student_file` itself, unless it cannot be resized.
        """
        student = self.manifest["student"]
        return self._inside(student.get("batch", student)["file"])

    @property
    def teacher_folder(self) -> Path | None:
        """Path of the SavedModel, or `None` where this copy has none."""
        files = self._teacher_files()
        if not files or files.keys() <= self._absent:
            return None
        return self._inside(self.manifest["teacher"]["path"])

    @property
    def onnx_files(self) -> dict[str, Path]:
        """Dict of `"student"` and `"teacher"` to the ONNX files present."""
        return {
            part: self._inside(entry["file"])
            for part, entry in self.manifest.get("onnx", {}).items()
            if entry["file"] not in self._absent
        }

    @property
    def classes(self) -> list[str]:
        """List of class names, in label order; of labels, or of values."""
        return self.manifest["classes"]

    @property
    def answer_form(self) -> AnswerForm:
        """`AnswerForm` of the answers, from the manifest's `task`.

        Raises:
            BundleError: its parts contradict each other.
        """
        task = self.manifest.get("task")
        if task is None:
            return AnswerForm((len(self.classes),))
        form = AnswerForm(tuple(task["shape"]), task["activation"], False)
        if form.sizes[-1] != len(self.classes) or form.name != task["output"]:
            raise BundleError(
                f"The `task` of '{self.path}' does not fit its manifest. "
                f"Expected: answers called '{form.name}' with "
                f"{len(self.classes)} numbers along the last axis, one for "
                f"each of `classes`. Received: '{task['output']}' of sizes "
                f"{task['shape']}. Export the bundle again."
            )
        return form

    @property
    def inputs(self) -> list[dict]:
        """List of dicts: `name`, `shape` (batch first), `dtype`, `range`."""
        return self.manifest["input"]

    @property
    def student_inputs(self) -> list[dict]:
        """Inputs of the TFLite file, in the form of `inputs`."""
        return self.manifest["student"].get("input", self.inputs)

    @property
    def teacher_inputs(self) -> list[dict]:
        """Inputs of the SavedModel, in the form of `inputs`."""
        return (self.manifest.get("teacher") or {}).get("input", self.inputs)

    @property
    def teacher_identity(self) -> str | None:
        """Hash of the teacher's files and classes; `None` where none is known.

        Known from the manifest alone, so that a device whose copy lacks the
        teacher can tell it from another. 64 hexadecimal digits: SHA-256 of
        the classes in label order, the files' hashes, the output's name and
        the tokenizer's hash, as JSON with sorted keys; of an ONNX file also
        how it becomes logits. Of a teacher that the bundle does not hold, the
        identity in `remote_teacher`.
        """
        teacher = self.manifest.get("teacher")
        if teacher is None:
            return self.remote_teacher.get("identity")
        content = {
            "classes": self.classes,
            "files": teacher["files"],
            "output": teacher["output"],
            "text": teacher.get("text", {}).get("sha256"),
        }
        if "onnx" in teacher:
            # In hex: other languages write a float in another way.
            clip = struct.pack(">d", teacher["onnx"]["clip"]).hex()
            content["onnx"] = {**teacher["onnx"], "clip": clip}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    @property
    def remote_teacher(self) -> dict:
        """The manifest's entry of a teacher that the bundle does not hold.

        Empty where there is none.
        """
        return self.manifest.get("remote_teacher") or {}

    def lacks_teacher(self) -> str:
        """Returns the sentence for errors that need the teacher's files."""
        sentence = f"The bundle '{self.path}' holds no teacher."
        remote = self.remote_teacher
        if not remote:
            return sentence
        if remote["url"] is not None and remote["kind"] == URL:
            return (
                f"{sentence} It runs at a URL: pass teacher='{remote['url']}'."
            )
        return (
            f"{sentence} It was exported with one that no bundle can hold "
            f"({remote['kind']}): pass an object with `logits(inputs)`, such "
            f"as `keras_cascade.teachers.{remote['kind']}(...)`, or the URL "
            "where `keras_cascade.serving.serve(..., teacher=...)` serves it."
        )

    def operating_point(self, name: str = "default") -> dict:
        """Returns the operating point of that name, as a dict."""
        points = {p["name"]: p for p in self.manifest["operating_points"]}
        if name not in points:
            raise BundleError(
                f"Expected an operating point out of {sorted(points)}. "
                f"Received: '{name}'."
            )
        return points[name]

    def _listed(self):
        """Returns a dict of every listed file's path to its hash."""
        files = {}
        entries = [self.manifest.get(part) for part in ("student", "card")]
        entries.append(self.manifest["student"].get("batch"))
        for part in ("student", "teacher"):
            entries.append((self.manifest.get(part) or {}).get("text"))
        entries += self.manifest.get("onnx", {}).values()
        pairs = [(e["file"], e["sha256"]) for e in entries if e is not None]
        for name, sha256 in [*pairs, *self._teacher_files().items()]:
            if files.setdefault(name, sha256) != sha256:
                raise BundleError(
                    f"The manifest of '{self.path}' lists '{name}' twice, with "
                    "two hashes. Export the bundle again."
                )
        return files

    def _teacher_files(self):
        """Returns a dict of every file of the SavedModel to its hash."""
        teacher = self.manifest.get("teacher") or {"files": {}}
        return {
            f"{teacher['path']}/{name}": sha256
            for name, sha256 in teacher["files"].items()
        }

    def _optional_parts(self):
        """Returns sets of files that a copy may lack, each as a whole."""
        onnx = self.manifest.get("onnx", {}).values()
        return [set(self._teacher_files()), *({one["file"]} for one in onnx)]

    def _check_all(self):
        """Checks names and hashes, and keeps what a device opens later."""
        self._check_names()
        student = self.manifest["student"]
        kept = {student.get("batch", student)["file"]}
        for part in ("student", "teacher"):
            text = (self.manifest.get(part) or {}).get("text")
            if text is not None:
                kept.add(text["file"])
        for name, sha256 in self._listed().items():
            if name in kept:
                self._kept[name] = self._content(name, sha256, read_file)
            elif name not in self._absent:
                self._content(name, sha256, hash_file)

    def _check_names(self):
        """Compares the names on disk with those in the manifest."""
        listed = self._listed()
        try:
            present = {
                f.relative_to(self.path).as_posix()
                for f in self.path.rglob("*")
                if not f.is_dir() or f.is_symlink()
            }
        except OSError as error:
            raise BundleError(
                f"The files of '{self.path}' cannot be listed: "
                f"{error.strerror or error}."
            ) from error
        for name in listed:
            self._inside(name)
        self._absent = set()
        for part in self._optional_parts():
            if not part & present:
                self._absent |= part
        expected = (set(listed) - self._absent) | {MANIFEST, SIGNATURE}
        extra = sorted(present - expected)
        if extra:
            raise BundleError(
                f"'{self.path}' holds files that its manifest does not list: "
                f"{extra[:5]}. Export the bundle again."
            )

    def _content(self, name, sha256, read):
        """Reads a file by a function, which returns its content's hash too.

        Args:
            name: str, its path in the bundle.
            sha256: str, the hash that it must have.
            read: function of the path. Returns the hash, or a tuple of a
                result and the hash.

        Returns:
            The result of `read`, if any.
        """
        file = self._inside(name)
        try:
            content = read(file)
        except FileNotFoundError:
            raise self._lacks(name) from None
        except OSError as error:
            if not file.is_file():
                raise self._lacks(name) from None
            raise BundleError(
                f"'{name}' in the bundle '{self.path}' cannot be read or "
                f"copied: {error.strerror or error}."
            ) from error
        except MemoryError:
            raise BundleError(
                f"'{name}' in the bundle '{self.path}' is larger than this "
                "machine's memory."
            ) from None
        content, actual = (
            content if isinstance(content, tuple) else (None, content)
        )
        if actual != sha256:
            raise BundleError(
                f"'{name}' in the bundle '{self.path}' was altered. Expected: "
                f"SHA-256 {sha256[:12]}... as in {MANIFEST}. Received: "
                f"{actual[:12]}.... Export or copy the bundle again."
            )
        return content

    def _lacks(self, name):
        return BundleError(
            f"The bundle '{self.path}' lacks '{name}'. Export or copy it again."
        )

    def _inside(self, name):
        """Returns a listed file's path; rejects every way out of the bundle."""
        relative = PurePosixPath(name)
        plain = not relative.is_absolute() and ".." not in relative.parts
        file = self.path / relative
        linked = any(
            (self.path / part).is_symlink()
            for part in [relative, *relative.parents]
        )
        if not plain or "\\" in name or "\0" in name or linked:
            raise BundleError(
                "Expected relative paths inside the bundle, without links. "
                f"Received: {name!r} in '{self.path}'."
            )
        return file


def _copy(target, source):
    return copy_file(source, target)


def _checked_pin(sha256):
    if not isinstance(sha256, str) or not re.fullmatch(HEX, sha256):
        raise ValueError(
            "Expected `sha256` to be the SHA-256 of a manifest.json, 64 "
            f"hexadecimal digits. Received: {sha256!r}."
        )
    return sha256.lower()


def _identity(folder):
    """Returns a value that differs once a bundle's files were exchanged."""
    try:
        states = os.stat(folder), os.stat(folder / MANIFEST)
    except OSError:
        return None
    return [(one.st_dev, one.st_ino, one.st_mtime_ns) for one in states]
