"""Exchange of a bundle for a new version, as a deployment does it."""

import json
import shutil

from keras_cascade.bundle.manifest import seal
from keras_cascade.bundle.writing import exchange


def replace_bundle(path, edit=lambda manifest, folder: None):
    """Exchanges the bundle for a copy with `teacher/2`, edited."""
    new = path.with_name("new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(path, new)
    manifest = json.loads((new / "manifest.json").read_text())
    old_folder = new / manifest["teacher"]["path"]
    manifest["teacher"]["path"] = "teacher/2"
    if old_folder.name != "2":
        old_folder.rename(new / "teacher" / "2")
    edit(manifest, new)
    manifest["sha256"] = seal(manifest)
    (new / "manifest.json").write_text(json.dumps(manifest))
    assert exchange(new, path)
