"""Unicode's NFKC case folding, as rules for the library `tokenizers`.

`tokenizers` has NFKC and lower case, which together differ from case folding
in a few characters. Each of those gets a replacement rule. Export compares the
tokens of every calibration text with those that the model was trained on.
"""

import functools
import sys
import unicodedata

#: Replaces a character that cannot be a word of any vocabulary.
NO_WORD = "\ue000"
#: Replaces a punctuation character that is a word of its own.
NO_PUNCTUATION = "\u2e3b"
#: Ranges of invisible characters, which folding removes; the formatting
#: characters among them cut words and are gone before.
IGNORABLE = (
    ("\u034f", "\u034f"), ("\u115f", "\u1160"), ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"), ("\u3164", "\u3164"), ("\ufe00", "\ufe0f"),
    ("\uffa0", "\uffa0"), ("\U000e0100", "\U000e01ef"),
)  # fmt: skip
#: Ranges of characters that are words of their own in BERT's tokenizer.
CHINESE = (
    ("\u4e00", "\u9fff"), ("\u3400", "\u4dbf"),
    ("\U00020000", "\U0002a6df"), ("\U0002a700", "\U0002b73f"),
    ("\U0002b740", "\U0002b81f"), ("\U0002b820", "\U0002ceaf"),
    ("\uf900", "\ufaff"), ("\U0002f800", "\U0002fa1f"),
)  # fmt: skip


def folded(text: str) -> str:
    """Returns ICU's NFKC_Casefold of `text`, with ignorables still in it."""
    once = unicodedata.normalize(
        "NFKC", unicodedata.normalize("NFD", text).casefold()
    )
    return unicodedata.normalize("NFKC", once.casefold())


def folding_rules(alphabet: set[str]) -> list[tuple[str, str]]:
    """Replacements that make lower case after NFKC equal to case folding.

    A character that folds to punctuation or a space does so inside its word,
    as words were cut before: it becomes one that no vocabulary holds.

    Args:
        alphabet: set of the characters that a vocabulary holds. There is no
            rule for characters that are unknown to it either way.

    Returns:
        List of pairs: a regular expression's class, such as `"[ßẞ]"`, and the
        replacement of its characters.
    """
    sources: dict[str, list[str]] = {}
    for character, target in _all_rules().items():
        before = unicodedata.normalize("NFKC", character).lower()
        is_removed = target in (NO_WORD, NO_PUNCTUATION)
        if is_removed or alphabet & {*before, *target}:
            sources.setdefault(target, []).append(character)
    ignorable = "".join(f"{low}-{high}" for low, high in IGNORABLE)
    return [
        (f"[{ignorable}]", ""),
        *(
            (f"[{''.join(characters)}]", target)
            for target, characters in sources.items()
        ),
    ]


@functools.cache
def _all_rules():
    rules = {}
    for code in range(128, sys.maxunicode + 1):
        character = chr(code)
        category = unicodedata.category(character)
        # Unassigned, private, surrogate and control characters keep their
        # form or cut words before the rules run.
        if category in ("Cn", "Co", "Cs", "Cc", "Cf"):
            continue
        if _in(IGNORABLE, character):
            continue
        target = folded(character)
        is_mark = category.startswith("P")
        if target == character:
            continue
        if is_mark and len(target) == 1 and _cuts(target):
            continue
        if any(map(_cuts, target)) and not _in(CHINESE, character):
            rules[character] = NO_PUNCTUATION if is_mark else NO_WORD
        elif target != unicodedata.normalize("NFKC", character).lower():
            rules[character] = target
    return rules


def _cuts(character):
    return (
        character.isspace()
        or unicodedata.category(character).startswith("P")
        or (character.isascii() and not character.isalnum())
        or _in(CHINESE, character)
    )


def _in(ranges, character):
    return any(low <= character <= high for low, high in ranges)
