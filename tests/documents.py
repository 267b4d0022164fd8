"""What the documentation shows, for the tests that run it."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: The README and everything in `docs/`, relative to the project.
DOCUMENTS = (
    "README.md",
    *sorted(f"docs/{file.name}" for file in ROOT.glob("docs/*.md")),
)


def blocks(file, language):
    """The fenced code blocks of a Markdown file, in order.

    Args:
        file: path, relative to the project.
        language: str, what stands behind the opening fence.
    """
    text = (ROOT / file).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def commands(text):
    """The lines of a text that call `keras-cascade`, each as its arguments."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (line.strip() for line in joined.splitlines())
    return [
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith("keras-cascade ")
    ]
