"""What the documents show, for the tests that run or compare it."""

import re

from tests.documents import ROOT


def languages(document):
    """The languages of a document's code blocks, in order."""
    text = (ROOT / document).read_text("utf-8")
    fences = re.findall(r"^```(.*)$", text, re.M)
    assert len(fences) % 2 == 0
    return fences[::2]


def stated_output(code):
    """What comments behind `print(...)` say that it prints, in lines."""
    found = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.M)
    assert len(found) == len(re.findall(r"^ *print\(", code, re.M))
    return found


def rows(document, columns):
    """Cells of the table with these headings, row by row."""
    text = (ROOT / document).read_text("utf-8")
    heading = f"| {' | '.join(columns)} |\n"
    assert text.count(heading) == 1, heading
    body = text.partition(heading)[2].split("\n\n")[0]
    return [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in body.splitlines()[1:]
    ]
