"""Words that the project no longer uses, and the docstrings' first lines."""

import ast
import dataclasses
import fnmatch
import re

from tests.helpers.documents import ROOT

#: Files whose words are checked, as globs relative to the project.
CHECKED = (
    "keras_cascade/**/*.py",
    "keras_cascade/**/*.jinja",
    "keras_cascade/evaluation/**/*.js",  # not those that Vite builds
    "docs/*.md",
    "tutorials/*.py",
    "tutorials/README.md",
    "README.md",
    "CONTRIBUTING.md",
)
#: Regular expression of a retired word to the term that replaces it. A word
#: ends where its letters or its CamelCase end, so `_settle`, `settle_rows` and
#: `RowsSettle` match `settle`; a space matches white space, `_`, `-` or none.
RETIRED = {
    r"(?i:promis\w*)": "guarantee",
    r"(?i:judged|judging)|def judge": "score_examples, ExampleResults",
    r"Evidence": "CalibrationSample",
    r"(?i:believ\w*)": "validated, validate_logits",
    r"(?i:drafts?)(?![0-9])": "PendingPrediction",
    r"(?i:settle[sd]?|settling)": "fall_back",
    r"of_the_student": "student_result",
    r"(?i:told|untold)": "reported, unreported",
    r"SeenRows|seen_rows": "RowCounter",
    r"(?i:harmed|helped|spoilt)": "negative flips, positive flips",
    r"(?i:stand[-_]?ins?)": "layer substitutions",
    r"(?i:out of scope)": "out-of-distribution",
    r"(?i:foreign)": "out-of-distribution",
    r"(?i:certified from)": "fixed-sequence testing",
    r"(?i:kept set)|KeptAccuracy|kept_accuracy": "selective accuracy",
    r"(?i:weighed)": "weighted",
    r"(?i:taught)": "teacher targets",
    r"(?i:cash)": "inactive bet",
    r"(?i:hurry|hurries|hurried)": "flush",
    r"(?i:refusals?)": "error message",
    r"ModelSide|model_side": "ExportedModel",
    r"(?<=\.)asked(?=\()|def asked(?=\()": "as_served",
    r"ship(?=\()": "write",
    r"CascadeRecord|(?i:cascade[.]record)(?![a-z(])": "DataRecord",
    # But for "in place", "in the kernel's place", "takes the place of".
    r"(?<!in\x20)(?<!into\x20)(?<!its\x20)(?<!their\x20)(?<!'s\x20)"
    r"(?i:places?)(?!\x20of)": "index, position",
    r"(?i:questions)(?=[(])|def questions": "delegated_inputs",
    r"class DeferralCurve(?=[(:])": "DeferralCurve, DeferralCurveCallback",
}
#: `(path glob, part of the match, reason)` where a retired word is right.
EXCEPTIONS = (
    (
        "keras_cascade/utils/earlier_names.py",
        "",
        "names the keys of files that 0.1.0 wrote",
    ),
    ("keras_cascade/cascade.py", "def judge", "the public method"),
    (
        "keras_cascade/evaluation/deferral_curve.py",
        "class DeferralCurve",
        "the one class of that name",
    ),
    (
        "keras_cascade/runtime/queueing/queue_tables.py",
        "refusal",
        "a column of the queue's file",
    ),
    (
        "keras_cascade/teachers/chat_scores.py",
        "refusal",
        "a key of the chat-completions protocol",
    ),
    (
        "keras_cascade/utils/image_format.py",
        "draft",
        "Pillow's own method",
    ),
)
#: First words that make a clause of a docstring's first line.
CLAUSES = ("What", "How", "Whether", "Why", "Who", "Which", "When", "Where")


@dataclasses.dataclass(frozen=True)
class Finding:
    """A position in a file that breaks a rule.

    Attributes:
        path: str, relative to the project.
        line: int, or 0 for the path itself.
        text: str, the words that break the rule.
        advice: str, what the rule asks for.
    """

    path: str
    line: int
    text: str
    advice: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.text!r}: {self.advice}"


def retired_words(patterns=CHECKED, exceptions=EXCEPTIONS):
    """Finds the retired words in files and in their paths.

    Args:
        patterns: globs of files, relative to the project.
        exceptions: as `EXCEPTIONS`.

    Returns:
        List of `Finding`.
    """
    findings = []
    for path in _files(patterns):
        text = (ROOT / path).read_text("utf-8")
        for pattern, term in RETIRED.items():
            matcher = _matcher(pattern)
            positions = [(0, match[0]) for match in matcher.finditer(path)]
            positions += [
                (text.count("\n", 0, match.start()) + 1, match[0])
                for match in matcher.finditer(text)
            ]
            findings += [
                Finding(path, line, word, f"say: {term}")
                for line, word in positions
                if not _is_exception(path, word, exceptions)
            ]
    return findings


def unused_exceptions(exceptions=EXCEPTIONS):
    """Returns the exceptions that no retired word needs."""
    findings = retired_words(exceptions=())
    return [
        one
        for one in exceptions
        if not any(_is_exception(f.path, f.text, [one]) for f in findings)
    ]


def poor_first_lines(patterns=("keras_cascade/**/*.py",)):
    """Finds first lines of docstrings that are no sentence of their own.

    Args:
        patterns: globs of files, relative to the project.

    Returns:
        List of `Finding`.
    """
    findings = []
    for path in _files(patterns):
        tree = ast.parse((ROOT / path).read_text("utf-8"))
        for node in ast.walk(tree):
            if not isinstance(
                node,
                ast.Module
                | ast.ClassDef
                | ast.FunctionDef
                | ast.AsyncFunctionDef,
            ):
                continue
            docstring = ast.get_docstring(node)
            if docstring is None:
                continue
            first = docstring.splitlines()[0] if docstring else ""
            line = node.body[0].lineno
            if not first.endswith("."):
                advice = "end the first line with a period"
                findings.append(Finding(path, line, first, advice))
            if first.split(" ")[0].rstrip(",:") in CLAUSES:
                advice = "begin with a noun phrase or a verb"
                findings.append(Finding(path, line, first, advice))
    return findings


def _files(patterns):
    """Returns the paths of the files that match, sorted."""
    paths = {
        file.relative_to(ROOT).as_posix()
        for pattern in patterns
        for file in ROOT.glob(pattern)
    }
    return sorted(paths)


def _matcher(pattern):
    pattern = pattern.replace(" ", r"[\s_-]*")
    start = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))"
    return re.compile(rf"{start}(?:{pattern})(?![a-z])")


def _is_exception(path, word, exceptions):
    return any(
        fnmatch.fnmatch(path, glob) and part in word
        for glob, part, _ in exceptions
    )
