"""Readers of tables: CSV files as spreadsheets write them, and Parquet."""

import codecs
import contextlib
import csv
import io
import re
import threading
import warnings
from pathlib import Path

import numpy as np

from keras_cascade.datasets.array_splits import splits_from_arrays
from keras_cascade.datasets.class_names import (
    class_name,
    label_indices,
    ordered_names,
)
from keras_cascade.datasets.reading_options import ReadingOptions
from keras_cascade.runtime.inputs import MAX_CHARACTERS
from keras_cascade.utils.image_format import opened_image
from keras_cascade.utils.optional_package import optional_package

DELIMITERS = ",;\t|"
#: What spreadsheets in Western Europe and America write, apart from Unicode.
OLD_ENCODING = "cp1252"
_NAMED = 5
#: In this order: that of UTF-32 begins with that of UTF-16.
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
#: First bytes of files that are no text: of workbooks, archives and Parquet.
_BINARY = {
    b"PK\x03\x04": "an Excel workbook or a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "a gzip archive",
    b"PAR1": "a Parquet file, for which there is parquet:",
}
_limit = threading.Lock()


def text_csv(path, seed, options=None):
    """Loads texts and labels from a CSV file.

    Commas, semicolons, tabs or `|` may separate the columns; UTF-8, UTF-16,
    UTF-32 and Windows-1252 are read. Blank rows are left out, and spaces around
    labels.

    Args:
        path: file.
        seed: int, of the splits.
        options: `ReadingOptions`. Defaults to `None`: their defaults.

    Returns:
        `Splits`.

    Raises:
        ValueError: it is no such table, or has rows without a text or a
            label; the error names their lines.
    """
    options = options or ReadingOptions()
    name = f"csv:{path}"
    content = _decoded(_existing(path, "csv", "a CSV file").read_bytes(), name)
    # A first line for Excel alone.
    said = re.match(r"\s*\"?sep=(.)\"?[;,\t]*(\r\n|\r|\n)", content)
    first = 0 if said is None else content[: said.end()].count("\n") or 1
    content = content if said is None else content[said.end() :]
    delimiter, columns = _header(content, name, options)
    texts, labels = [], []
    problems = {}
    with _long_fields():
        reader = csv.reader(
            io.StringIO(content, newline=""), delimiter=delimiter, strict=True
        )
        header = next(reader)
        line = first + reader.line_num + 1
        try:
            for row in reader:
                if any(field.strip() for field in row):
                    values, problem = _values(row, header, columns)
                    if problem is None:
                        texts.append(values[0])
                        labels.append(values[1])
                    else:
                        problems[line] = problem
                line = first + reader.line_num + 1
        except csv.Error as error:
            raise ValueError(
                f"{name}: the row that begins in line {line} cannot be read "
                f"({error}). Is there a quote that is never closed?"
            ) from None
    _report(problems, len(texts), name, options.skip_damaged)
    return _text_splits(name, texts, labels, seed)


def parquet(path, seed, options=None):
    """Loads texts or images, and labels, from a Parquet file.

    Args:
        path: file. The column of inputs is `text_column`, or the only one of
            images: encoded files as bytes, or dicts of `bytes`, as in image
            data sets of the `datasets` package.
        seed: int, of the splits.
        options: `ReadingOptions`. Defaults to `None`: their defaults.

    Returns:
        `Splits`.
    """
    options = options or ReadingOptions()
    name = f"parquet:{path}"
    file = _existing(path, "parquet", "a Parquet file")
    pyarrow = optional_package("pyarrow.parquet", extra="parquet")
    try:
        table = pyarrow.read_table(file)
    except Exception as error:
        raise ValueError(
            f"{name}: expected a Parquet file. It cannot be read "
            f"({type(error).__name__}: {str(error)[:120]})."
        ) from None
    columns = {one: table.column(one) for one in table.column_names}
    images = [
        one
        for one in columns
        if str(columns[one].type).startswith(("struct<bytes", "binary"))
    ]
    if options.label_column not in columns:
        raise _no_columns(name, options, list(columns))
    labels = columns[options.label_column].to_pylist()
    if options.text_column in columns:
        values, kind = columns[options.text_column].to_pylist(), "text"
    elif len(images) == 1:
        values, kind = columns[images[0]].to_pylist(), "image"
        values = [
            one["bytes"] if isinstance(one, dict) else one for one in values
        ]
    else:
        raise _no_columns(name, options, list(columns))
    problems = {}
    for row, (value, label) in enumerate(zip(values, labels, strict=True)):
        if label is None or not str(label).strip():
            problems[row] = "no label"
        elif not value or (kind == "text" and not str(value).strip()):
            problems[row] = f"no {kind}"
    whole = [row for row in range(len(values)) if row not in problems]
    _report(problems, len(whole), name, options.skip_damaged, "row")
    values = [values[row] for row in whole]
    labels = [class_name(labels[row]) for row in whole]
    if kind == "text":
        return _text_splits(name, list(map(str, values)), labels, seed)
    return _image_splits(name, values, labels, whole, seed, options)


def _text_splits(name, texts, labels, seed):
    names = ordered_names(labels)
    x = np.empty(len(texts), dtype=object)
    x[:] = texts
    return splits_from_arrays(
        name, x, label_indices(labels, names), names, seed
    )


def _image_splits(name, files, labels, rows, seed, options):
    numbered = list(zip(rows, files, strict=True))
    heads = [_read(name, row, _head, file) for row, file in numbered]
    images = options.image_format(
        {size for size, _ in heads}, all(gray for _, gray in heads)
    )
    x = np.stack(
        [_read(name, row, images.pixels, file) for row, file in numbered]
    )
    names = ordered_names(labels)
    return splits_from_arrays(
        name,
        x,
        label_indices(labels, names),
        names,
        seed,
        scale=options.scale,
    )


def _head(file):
    with opened_image(file) as image:
        return (image.height, image.width), image.mode in ("1", "L", "I;16")


def _read(name, row, function, file):
    try:
        return function(file)
    except ValueError as error:
        raise ValueError(f"{name}, row {row}: {error}") from error


def _existing(path, scheme, expected):
    found = Path(path).expanduser()
    if not found.is_file():
        raise ValueError(
            f"Data spec '{scheme}:{path}': expected {expected}. There is "
            "none at that path."
        )
    return found


def _decoded(raw, name):
    """Text of a file in Unicode or, with a warning, Windows-1252."""
    for first, kind in _BINARY.items():
        if raw.startswith(first):
            raise ValueError(
                f"{name}: expected a CSV file. It is {kind}, by its first "
                "bytes. Save it as CSV in UTF-8."
            )
    encoding = next(
        (
            encoding
            for mark, encoding in _BYTE_ORDER_MARKS.items()
            if raw.startswith(mark)
        ),
        "utf-8",
    )
    if encoding == "utf-8" and raw[:200].count(0) >= len(raw[:200]) // 3 > 0:
        encoding = "utf-16-be" if raw[:1] == b"\0" else "utf-16-le"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ValueError(
                f"{name}: expected text in {encoding}, as its first bytes "
                f"say. It cannot be decoded from byte {error.start} on. Save "
                "it as UTF-8."
            ) from None
        line = raw.count(b"\n", 0, error.start) + 1
    warnings.warn(
        f"{name} is not UTF-8 (line {line}); it is read as Windows-1252. "
        "Where its letters then look wrong, save it as UTF-8.",
        stacklevel=4,
    )
    try:
        return raw.decode(OLD_ENCODING)
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _header(content, name, options):
    """`(delimiter, (index of the texts, index of the labels))`."""
    wanted = (options.text_column, options.label_column)
    found = []
    for delimiter in DELIMITERS:
        with _long_fields():
            reader = csv.reader(
                io.StringIO(content, newline=""), delimiter=delimiter
            )
            try:
                header = [field.strip() for field in next(reader, [])]
            except csv.Error:
                continue
        if len(header) > len(found):
            found = header
        for fold in (str, str.lower):
            names = [fold(field) for field in header]
            if all(names.count(fold(one)) == 1 for one in wanted):
                return delimiter, tuple(
                    names.index(fold(one)) for one in wanted
                )
    raise _no_columns(name, options, found)


def _no_columns(name, options, found):
    wanted = (options.text_column, options.label_column)
    return ValueError(
        f"{name}: expected the columns '{wanted[0]}' and '{wanted[1]}', "
        f"separated by commas, semicolons or tabs. Received: {found[:20]}. "
        "Name others with `text_column=` and `label_column=`."
    )


def _values(row, header, columns):
    """`((text, label), problem)`, one of which is `None`."""
    # Spreadsheets end short rows early, and long ones with empty fields.
    extra = [field for field in row[len(header) :] if field.strip()]
    if extra:
        return None, f"{len(row)} fields, not {len(header)}: quote the text"
    text, label = (row[index] if index < len(row) else "" for index in columns)
    if not text.strip():
        return None, "no text"
    if not label.strip():
        return None, "no label"
    if len(text) > MAX_CHARACTERS:
        return None, f"a text of {len(text)} characters"
    return (text, class_name(label)), None


def _report(problems, whole, name, skip, unit="line"):
    """Raises or warns where rows are not whole.

    Args:
        problems: dict of a row's line to what is wrong.
        whole: int, number of other rows.
        name: str, the data spec.
        skip: bool. Warns where it would raise.
        unit: str. Defaults to `"line"`.
    """
    if not problems:
        return
    lines = list(problems)
    shown = ", ".join(f"{unit} {n} ({problems[n]})" for n in lines[:_NAMED])
    more = f" and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    count = f"{len(lines)} of {whole + len(lines)} rows"
    if skip:
        warnings.warn(
            f"{name}: left out {count} that are not whole: {shown}{more}.",
            stacklevel=4,
        )
        return
    raise ValueError(
        f"{name}: {count} are not whole: {shown}{more}. Expected: a text and "
        "a label in every row. Mend them, or pass `skip_damaged=True` to "
        "leave such rows out."
    )


@contextlib.contextmanager
def _long_fields():
    """Context manager in which the `csv` module reads long texts."""
    with _limit:
        before = csv.field_size_limit(2**31 - 1)
        try:
            yield
        finally:
            csv.field_size_limit(before)
