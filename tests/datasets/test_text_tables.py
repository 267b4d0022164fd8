"""`csv:` and `parquet:` specs, as spreadsheets and data sets write them."""

import gzip
import io

import numpy as np
import pytest
from PIL import Image

import keras_cascade as kc

ROWS = [
    (
        f"text {n}, about {'cats' if n % 2 else 'dogs'}",
        "cat" if n % 2 else "dog",
    )
    for n in range(40)
]


def table(rows=ROWS, delimiter=",", header=("text", "label"), end="\r\n"):
    lines = [delimiter.join(header)]
    lines += [f'"{text}"{delimiter}{label}' for text, label in rows]
    return end.join(lines) + end


def load(tmp_path, content, encoding="utf-8", **options):
    file = tmp_path / "a.csv"
    file.write_bytes(content.encode(encoding))
    return kc.datasets.load(f"csv:{file}", **options)


def texts_of(splits):
    parts = [splits.arrays(part) for part in splits.sizes]
    return {
        (text, splits.class_names[label])
        for x, y in parts
        for text, label in zip(x, y, strict=True)
    }


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_separators(tmp_path, delimiter, end):
    splits = load(tmp_path, table(delimiter=delimiter, end=end))
    assert texts_of(splits) == set(ROWS)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"]
)
def test_unicode(tmp_path, encoding):
    rows = [*ROWS, ("café ☕ olé", "cat")]
    assert texts_of(load(tmp_path, table(rows), encoding)) == set(rows)


def test_windows_1252_is_read_with_a_warning(tmp_path):
    rows = [*ROWS, ("café, 5 €", "cat")]
    with pytest.warns(UserWarning, match=r"a\.csv is not UTF-8 \(line 42\)"):
        splits = load(tmp_path, table(rows), "cp1252")
    assert texts_of(splits) == set(rows)


def test_blank_rows_and_spaces_around_labels(tmp_path):
    content = table() + ",\r\n\r\n , \r\nanother text, cat ,,\r\n"
    splits = load(tmp_path, content)
    assert texts_of(splits) == {*ROWS, ("another text", "cat")}


def test_a_long_text(tmp_path):
    rows = [*ROWS, ("word " * 40_000, "cat")]
    assert texts_of(load(tmp_path, table(rows))) == set(rows)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("only a text\r\n", r"line 42 \(no label\)"),
        ("a,\r\nb,\r\n", r"line 42 \(no label\), line 43 \(no label\)"),
        (",cat\r\n", r"line 42 \(no text\)"),
        ("a text, with a comma,cat\r\n", r"line 42 \(3 fields, not 2"),
        ('"two\r\nlines",\r\n', r"line 42 \(no label\)"),
        ('"never closed,cat\r\n', "begins in line 42.*never closed"),
        ('"' + "x" * 1_000_001 + '",cat\r\n', "line 42 .a text of 1000001"),
    ],
)
def test_rows_that_are_not_whole_are_named(tmp_path, more, message):
    with pytest.raises(ValueError, match=message) as error:
        load(tmp_path, table() + more)
    assert f"csv:{tmp_path / 'a.csv'}" in str(error.value)


def test_rows_that_are_not_whole_can_be_left_out(tmp_path):
    with pytest.warns(UserWarning, match="left out 1 of 41 rows.*line 42"):
        splits = load(tmp_path, table() + "no label\r\n", skip_damaged=True)
    assert texts_of(splits) == set(ROWS)


def test_other_columns(tmp_path):
    content = table(header=("Sentence ", "intent"))
    splits = load(
        tmp_path, content, text_column="sentence", label_column="intent"
    )
    assert texts_of(splits) == set(ROWS)
    with pytest.raises(ValueError, match=r"\['Sentence', 'intent'\].*`text_c"):
        load(tmp_path, content)
    twice = table(header=("text", "text"))
    with pytest.raises(ValueError, match="'text' and 'label'"):
        load(tmp_path, twice)


def test_equal_texts_stay_in_one_split(tmp_path):
    rows = ROWS + [("ok thanks", "cat")] * 10 + [("ok", "dog")] * 3
    splits = load(tmp_path, table(rows))
    parts = [set(splits.arrays(part)[0]) for part in splits.sizes]
    for one in range(3):
        assert not parts[one] & parts[one - 1]
    assert sum(splits.sizes.values()) == len(rows)
    again = load(tmp_path, table(rows))
    for part in splits.sizes:
        np.testing.assert_array_equal(
            splits.arrays(part)[0], again.arrays(part)[0]
        )


@pytest.fixture
def parquet(tmp_path):
    """A function that writes columns to a file and returns its spec."""
    import pyarrow
    from pyarrow import parquet

    def write(**columns):
        file = tmp_path / "a.parquet"
        parquet.write_table(pyarrow.table(columns), file)
        return f"parquet:{file}"

    return write


def test_parquet_of_texts(parquet):
    texts, labels = zip(*ROWS, strict=True)
    spec = parquet(text=texts, label=labels, other=range(40))
    assert texts_of(kc.datasets.load(spec)) == set(ROWS)
    spec = parquet(text=[*texts[:-1], None], label=[1, 2] * 20)
    with pytest.raises(ValueError, match=r"row 39 \(no text\)"):
        kc.datasets.load(spec)
    spec = parquet(sentence=texts, label=labels)
    with pytest.raises(ValueError, match=r"'text' and 'label'.*'sentence'"):
        kc.datasets.load(spec)


def test_parquet_of_images(parquet):
    files = []
    for number in range(16):
        stream = io.BytesIO()
        pixels = np.full((5 + number % 2, 4), 10 * number, np.uint8)
        Image.fromarray(pixels).save(stream, "PNG")
        files.append({"bytes": stream.getvalue(), "path": None})
    labels = [n % 2 for n in range(16)]
    spec = parquet(image=files, label=labels)
    splits = kc.datasets.load(spec, image_size=(6, 6), scale="0-255")
    assert splits.input_shape == (6, 6, 1)
    for part in splits.sizes:
        x, y = splits.arrays(part)
        np.testing.assert_array_equal(x[:, 0, 0, 0] / 10 % 2, y)
    files[3]["bytes"] = b"no image"
    with pytest.raises(ValueError, match=r"a\.parquet, row 3: Expected 8 byt"):
        kc.datasets.load(parquet(image=files, label=labels))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("first", ["sep=;", '"sep=;"'])
def test_a_first_line_that_names_the_separator(tmp_path, first, end):
    content = first + end + table(delimiter=";", end=end)
    assert texts_of(load(tmp_path, content)) == set(ROWS)
    broken = content + f"no label;{end}"
    with pytest.raises(ValueError, match=r"line 43 \(no label\)"):
        load(tmp_path, broken)


def test_one_name_in_two_forms_is_one_class(tmp_path):
    """As files of macOS and of other systems write it."""
    forms = ["caf\u00e9", "cafe\u0301", "tea"]
    rows = [(f"text {n}", forms[n % 3]) for n in range(36)]
    assert load(tmp_path, table(rows)).class_names == ["caf\u00e9", "tea"]


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"PK\x03\x04 and so on", "an Excel workbook"),
        (gzip.compress(b"text,label", mtime=0), "a gzip archive"),
        (b"PAR1", "for which there is parquet:"),
    ],
)
def test_files_that_are_no_text_are_named(tmp_path, content, kind):
    (tmp_path / "a.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"expected a CSV file.*{kind}"):
        kc.datasets.load(f"csv:{tmp_path / 'a.csv'}")


@pytest.mark.parametrize("label", ["{:.3f}", "id{}"])
def test_numbers_and_identifiers_are_no_classes(tmp_path, label):
    rows = [(f"text {n}", label.format(n / 7)) for n in range(40)]
    with pytest.raises(ValueError, match="regression, and identifiers are no"):
        load(tmp_path, table(rows))


def test_line_ends_and_quotes_inside_of_texts(tmp_path):
    rows = [(f'one ""{n}""\r\nand, two', "ab"[n % 2]) for n in range(16)]
    expected = {(text.replace('""', '"'), label) for text, label in rows}
    assert texts_of(load(tmp_path, table(rows))) == expected
