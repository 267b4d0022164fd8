"""`deploy/android`, compiled by `kotlinc` and run on a JVM."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers import deploy_vectors
from tests.helpers.documents import ROOT

FOLDER = ROOT / "deploy" / "android"
COMPILER = FOLDER / "node_modules" / "kotlin-compiler" / "lib"
#: Android's own `org.json`, of Debian's libandroid-json-org-java.
JSON = Path("/usr/share/java/json-android.jar")
PARTS = (
    "kotlin-compiler", "kotlin-stdlib", "kotlin-script-runtime",
    "kotlin-reflect", "kotlinx-coroutines-core-jvm", "annotations-13.0",
)  # fmt: skip

pytestmark = pytest.mark.toolchain


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A class path of everything in the folder, compiled without a warning."""
    if shutil.which("java") is None or not JSON.exists():
        pytest.fail(
            "Expected Java and Android's org.json. On Debian: `apt-get "
            "install default-jre-headless libandroid-json-org-java`."
        )
    if not COMPILER.is_dir():
        command = ["npm", "ci", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=FOLDER, check=True, capture_output=True)
    output = tmp_path_factory.mktemp("classes")
    library = COMPILER / "kotlin-stdlib.jar"
    done = subprocess.run(
        ["java", "-cp", ":".join(str(COMPILER / f"{one}.jar") for one in PARTS),
         "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler", "-no-stdlib",
         "-no-reflect", "-Werror", "-cp", f"{library}:{JSON}",
         "-d", str(output), "src"],
        cwd=FOLDER, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return f"{output}:{library}:{JSON}"


def test_vectors(classes):
    done = subprocess.run(
        ["java", "-cp", classes, "kerascascade.VectorsKt",
         str(deploy_vectors.FILE)],
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = int(done.stdout.split()[0])
    content = deploy_vectors.vectors()
    cases = ("decisions", "refused", "answers", "rows")
    assert passed > sum(len(content[key]) for key in cases)
