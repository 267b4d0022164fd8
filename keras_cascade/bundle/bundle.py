"""Bundles on disk: every file is checked against the manifest."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path, PurePosixPath

from keras_cascade.bundle.manifest import MANIFEST, read_manifest
from keras_cascade.errors import BundleError

__all__ = ["Bundle", "BundleError", "hash_file"]


class Bundle:
    """A bundle on disk, checked against its manifest.

    Use `Bundle.load(path)`. A device's copy may lack the teacher, as a whole,
    and the ONNX files; everything else must be there.

    Attributes:
        path: `Path` of the bundle's folder.
        manifest: dict, as in `manifest.json`.
    """

    def __init__(self, path: Path, manifest: dict):
        self.path = path
        self.manifest = manifest

    def __repr__(self) -> str:
        return f"Bundle('{self.path}')"

    @classmethod
    def load(cls, path: str | os.PathLike) -> Bundle:
        """Opens a bundle and checks every file that its manifest lists.

        Args:
            path: str or path of the bundle's folder.

        Returns:
            `Bundle`.

        Raises:
            BundleError: there is no bundle, its manifest is not valid, or a
                file is missing, altered, linked or not listed.
        """
        root = Path(path)
        if not root.is_dir():
            raise BundleError(
                f"Expected a bundle's folder. There is none at '{path}'."
            )
        bundle = cls(root.resolve(), {})
        bundle.manifest = read_manifest(bundle._inside(MANIFEST))
        bundle.verify()
        return bundle

    def verify(self) -> None:
        """Compares every listed file with its hash.

        Raises:
            BundleError: a file is missing, altered, linked or not listed.
        """
        listed = self._listed()
        present = {
            f.relative_to(self.path).as_posix()
            for f in self.path.rglob("*")
            if not f.is_dir() or f.is_symlink()
        }
        for name in listed:
            self._inside(name)
        for part in self._optional_parts():
            if not part & present:
                listed = {k: v for k, v in listed.items() if k not in part}
        for name, sha256 in listed.items():
            self._check_file(name, sha256)
        extra = sorted(present - set(listed) - {MANIFEST})
        if extra:
            raise BundleError(
                f"'{self.path}' holds files that its manifest does not list: "
                f"{extra[:5]}. Export the bundle again."
            )

    @property
    def student_file(self) -> Path:
        """Path of the TFLite file."""
        return self._inside(self.manifest["student"]["file"])

    @property
    def teacher_folder(self) -> Path | None:
        """Path of the SavedModel, or `None` where this copy has none."""
        first = next(iter(self._teacher_files()), None)
        if first is None or not self._inside(first).exists():
            return None
        return self._inside(self.manifest["teacher"]["path"])

    @property
    def onnx_files(self) -> dict[str, Path]:
        """Dict of `"student"` and `"teacher"` to the ONNX files present."""
        files = {
            part: self._inside(entry["file"])
            for part, entry in self.manifest.get("onnx", {}).items()
        }
        return {part: file for part, file in files.items() if file.is_file()}

    @property
    def classes(self) -> list[str]:
        """List of class names, in label order."""
        return self.manifest["classes"]

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
        """Hash of the teacher's files and classes; `None` without a teacher.

        Known from the manifest alone, so that a device whose copy lacks the
        teacher can tell it from another. 64 hexadecimal digits: SHA-256 of
        the classes in label order, the files' hashes, the output's name and
        the tokenizer's hash, as JSON with sorted keys.
        """
        teacher = self.manifest.get("teacher")
        if teacher is None:
            return None
        content = {
            "classes": self.classes,
            "files": teacher["files"],
            "output": teacher["output"],
            "text": teacher.get("text", {}).get("sha256"),
        }
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

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
        for part in ("student", "teacher"):
            entries.append((self.manifest.get(part) or {}).get("text"))
        for entry in [*entries, *self.manifest.get("onnx", {}).values()]:
            if entry is not None:
                files[entry["file"]] = entry["sha256"]
        return files | self._teacher_files()

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

    def _check_file(self, name, sha256):
        file = self._inside(name)
        if not file.is_file():
            raise BundleError(
                f"The bundle '{self.path}' lacks '{name}'. Export or copy it "
                "again."
            )
        actual = hash_file(file)
        if actual != sha256:
            raise BundleError(
                f"'{name}' in the bundle '{self.path}' was altered. Expected: "
                f"SHA-256 {sha256[:12]}... as in {MANIFEST}. Received: "
                f"{actual[:12]}.... Export or copy the bundle again."
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


def hash_file(file: str | os.PathLike) -> str:
    """Computes the SHA-256 of a file, as hex."""
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
