"""Unicode's NFKC case folding, out of what `tokenizers` has.

`tokenizers` has NFKC and lower case. The two are not quite case folding: the
few characters where they differ get a rule each.
"""

import functools
import sys
import unicodedata

#: Stands for a character that cannot be a word of any vocabulary.
NO_WORD = "\ue000"
#: The same for one that is a word of its own.
NO_PUNCTUATION = "\u2e3b"
#: Characters without a look of their own, which folding leaves out; those that
#: are formatting characters cut words and are gone before.
IGNORABLE = (
    ("\u034f", "\u034f"), ("\u115f", "\u1160"), ("\u17b4", "\u17b5"),
    ("\u180b", "\u180f"), ("\u3164", "\u3164"), ("\ufe00", "\ufe0f"),
    ("\uffa0", "\uffa0"), ("\U000e0100", "\U000e01ef"),
)  # fmt: skip
#: Ranges of characters that are words of their own, as BERT has them.
CHINESE = (
    ("\u4e00", "\u9fff"), ("\u3400", "\u4dbf"),
    ("\U00020000", "\U0002a6df"), ("\U0002a700", "\U0002b73f"),
    ("\U0002b740", "\U0002b81f"), ("\U0002b820", "\U0002ceaf"),
    ("\uf900", "\ufaff"), ("\U0002f800", "\U0002fa1f"),
)  # fmt: skip


def folded(text):
    """`text` as ICU's NFKC_Casefold leaves it, before ignorables go."""
    once = unicodedata.normalize(
        "NFKC", unicodedata.normalize("NFD", text).casefold()
    )
    return unicodedata.normalize("NFKC", once.casefold())


def folding_rules(alphabet):
    """Characters that lower case after NFKC leaves other than folding does.

    A character that folds to punctuation or a space does so inside its word,
    as words were cut before: it becomes one that no vocabulary holds.

    Args:
        alphabet: set of the characters that a vocabulary holds. No rule is
            made for what is unknown to it either way.

    Returns:
        List of a regular expression's class, such as `"[ßẞ]"`, and what
        stands in the place of its characters.
    """
    sources = {}
    for one, other in _rules().items():
        before = unicodedata.normalize("NFKC", one).lower()
        if other in (NO_WORD, NO_PUNCTUATION) or alphabet & {*before, *other}:
            sources.setdefault(other, []).append(one)
    nothing = "".join(f"{low}-{high}" for low, high in IGNORABLE)
    return [
        (f"[{nothing}]", ""),
        *((f"[{''.join(ones)}]", other) for other, ones in sources.items()),
    ]


@functools.cache
def _rules():
    rules = {}
    for code in range(128, sys.maxunicode + 1):
        one = chr(code)
        category = unicodedata.category(one)
        if category in ("Cn", "Co", "Cs", "Cc", "Cf") or _in(IGNORABLE, one):
            continue
        wanted = folded(one)
        mark = category.startswith("P")
        if wanted == one or (mark and len(wanted) == 1 and _cuts(wanted)):
            continue
        if any(map(_cuts, wanted)) and not _in(CHINESE, one):
            rules[one] = NO_PUNCTUATION if mark else NO_WORD
        elif wanted != unicodedata.normalize("NFKC", one).lower():
            rules[one] = wanted
    return rules


def _cuts(one):
    return (
        one.isspace()
        or unicodedata.category(one).startswith("P")
        or (one.isascii() and not one.isalnum())
        or _in(CHINESE, one)
    )


def _in(ranges, one):
    return any(low <= one <= high for low, high in ranges)
