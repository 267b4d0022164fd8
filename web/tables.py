"""Writes `src/character-classes.ts`, the classes of the library `tokenizers`.

Run with `python web/tables.py`, with Node on PATH. Its output belongs to the
version of `tokenizers` that the file names.
"""

import json
import subprocess
import textwrap
from pathlib import Path

import tokenizers
from tokenizers import normalizers, pre_tokenizers

FILE = Path(__file__).parent / "src" / "character-classes.ts"
CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
#: Characters that the browser's Unicode is newer for: it takes them for marks,
#: or normalizes them, and the library does not.
NEWER = """
const { marks, forms } = JSON.parse(require("fs").readFileSync(0));
const known = new Set(marks);
const newer = [];
for (let code = 0; code < 0x110000; code++) {
  if (code >= 0xd800 && code < 0xe000) continue;
  const one = String.fromCodePoint(code);
  const differs = ["NFD", "NFKC"].some(
    (form) => one.normalize(form) !== (forms[form][code] ?? one));
  const isMark = /^\\p{Mn}$/u.test(one) && !known.has(code) &&
    forms.NFD[code] === undefined;
  if (isMark || differs) newer.push(code);
}
console.log(JSON.stringify(newer));
"""


def main():
    """Asks the library about every character, and writes the file."""
    off = dict.fromkeys(
        ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase"),
        False,
    )
    clean, chinese, accents = (
        normalizers.BertNormalizer(**{**off, name: True}).normalize_str
        for name in ("clean_text", "handle_chinese_chars", "strip_accents")
    )
    property_marks = normalizers.Replace(
        tokenizers.Regex(r"\p{Mn}"), ""
    ).normalize_str
    split = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    forms = {
        "NFD": normalizers.NFD().normalize_str,
        "NFKC": normalizers.NFKC().normalize_str,
    }
    changed = {
        name: {
            code: form(chr(code))
            for code in CODES
            if form(chr(code)) != chr(code)
        }
        for name, form in forms.items()
    }
    pieces = {code: len(split(f"a{chr(code)}a")) for code in CODES}
    marks = [
        code
        for code in CODES
        if code not in changed["NFD"] and not accents(chr(code))
    ]
    newer = subprocess.run(
        ["node", "-e", NEWER],
        input=json.dumps({"marks": marks, "forms": changed}),
        capture_output=True,
        text=True,
        check=True,
    )
    classes = {
        "REMOVED": [code for code in CODES if not clean(chr(code))],
        "SPACES": [code for code in CODES if pieces[code] == 2],
        "CHINESE": [code for code in CODES if chinese(chr(code)) != chr(code)],
        "MARKS": marks,
        "REGEX_MARKS": [
            code for code in CODES if not property_marks(chr(code))
        ],
        "PUNCTUATION": [code for code in CODES if pieces[code] == 3],
        "NEWER": json.loads(newer.stdout),
    }
    head, _, _ = FILE.read_text(encoding="utf-8").partition("/** Control")
    head = head.replace(
        head.partition("`tokenizers` ")[2].partition(" ")[0],
        tokenizers.__version__,
        1,
    )
    parts = [_constant(name, codes) for name, codes in classes.items()]
    FILE.write_text(head + "\n".join(parts), encoding="utf-8")


TITLES = {
    "REMOVED": "Control characters, which `clean_text` removes.",
    "SPACES": "White space.",
    "CHINESE": "Characters that are words of their own.",
    "MARKS": "Accents and other marks.",
    "REGEX_MARKS": "What `\\p{Mn}` is in the library's regular expressions.",
    "PUNCTUATION": "Punctuation, and all marks of ASCII.",
    "NEWER": "Characters that the library does not normalize yet.",
}


def _constant(name, codes):
    lines = textwrap.wrap(_packed(codes), 74)
    body = " +\n".join(
        f'  "{line}{" " if row < len(lines) - 1 else ""}"'
        for row, line in enumerate(lines)
    )
    return (
        f"/** {TITLES[name]} */\nexport const {name} = ranges(\n{body},\n);\n"
    )


def _packed(codes):
    """Ranges as differences in base 36."""
    ranges, parts, last = [], [], 0
    for code in codes:
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    for start, end in ranges:
        length = f",{_base36(end - start)}" if end > start else ""
        parts.append(_base36(start - last) + length)
        last = end
    return " ".join(parts)


def _base36(number):
    digits = "0123456789abcdefghijklmnopqrstuvwxyz"
    text = ""
    while number or not text:
        number, digit = divmod(number, 36)
        text = digits[digit] + text
    return text


if __name__ == "__main__":
    main()
