"""`deploy/ios`, parsed by the tree-sitter grammar of Swift.

There is no Swift compiler among the packages that the tests can install.
"""

import re

import pytest
import tree_sitter
import tree_sitter_swift

from keras_cascade.runtime.edge_cascade import SOURCES
from tests.helpers.documents import ROOT

FOLDER = ROOT / "deploy" / "ios"
FILES = sorted(FOLDER.rglob("*.swift"))


@pytest.fixture(scope="module")
def problems():
    """A function: the places where a text is not Swift."""
    language = tree_sitter.Language(tree_sitter_swift.language())
    parser = tree_sitter.Parser(language)

    def found(text):
        waiting, places = [parser.parse(text.encode()).root_node], []
        while waiting:
            node = waiting.pop()
            if node.is_error or node.is_missing:
                places.append((node.start_point[0] + 1, node.text[:60]))
            waiting.extend(node.children)
        return places

    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_it_is_swift(problems, file):
    text = file.read_text("utf-8")
    assert problems(text) == []
    assert problems(text.rstrip()[:-1]) != []


def test_the_package_has_its_targets():
    text = (FOLDER / "Package.swift").read_text("utf-8")
    targets = re.findall(r'\.(?:testT|t)arget\(\s*name: "(\w+)"', text)
    assert targets == [
        "KerasCascade",
        "KerasCascadeLiteRT",
        "KerasCascadeTests",
    ]
    for name in targets:
        folder = "Tests" if name.endswith("Tests") else "Sources"
        assert list((FOLDER / folder / name).glob("*.swift"))


def test_policies_and_sources_have_the_names_of_python():
    text = (FOLDER / "Sources/KerasCascade/Decision.swift").read_text("utf-8")

    def cases(name):
        body = re.search(rf"enum {name}: String {{(.*?)\n}}", text, re.S)[1]
        listed = re.findall(r"case ([\w, ]+)$", body, re.M)
        names = {one for line in listed for one in line.split(", ")}
        return names | set(re.findall(r'= "(\w+)"', body))

    assert cases("OnFailure") == set(SOURCES)
    assert cases("Source") == {"edge", "cloud"} | set(SOURCES.values()) - {None}
