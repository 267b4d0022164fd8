"""Code blocks, commands and tables of the documentation."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: The README and everything in `docs/`, relative to the project.
DOCUMENTS = (
    "README.md",
    *sorted(f"docs/{file.name}" for file in ROOT.glob("docs/*.md")),
)


def blocks(file, language):
    """Returns the fenced code blocks of a Markdown file, in order.

    Args:
        file: path, relative to the project.
        language: str, the word behind the opening fence.
    """
    text = (ROOT / file).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


def commands(text):
    """Returns the arguments of each line that calls `keras-cascade`."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = (line.strip() for line in joined.splitlines())
    return [
        shlex.split(line, comments=True)[1:]
        for line in lines
        if line.startswith("keras-cascade ")
    ]


def languages(document):
    """Returns the languages of a document's code blocks, in order."""
    text = (ROOT / document).read_text("utf-8")
    fences = re.findall(r"^```(.*)$", text, re.M)
    assert len(fences) % 2 == 0
    return fences[::2]


def stated_output(code):
    """Returns the comment behind each `print(...)`: the line it prints."""
    lines = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.M)
    assert len(lines) == len(re.findall(r"^ *print\(", code, re.M))
    return lines


def rows(document, columns):
    """Returns the cells of the table with these headings, row by row."""
    text = (ROOT / document).read_text("utf-8")
    heading = f"| {' | '.join(columns)} |\n"
    assert text.count(heading) == 1, heading
    body = text.partition(heading)[2].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in body.splitlines()[1:]
    ]
