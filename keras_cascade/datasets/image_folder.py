"""Reader of image folders: one folder per class."""

import collections
import concurrent.futures
import hashlib
import os
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
from keras_cascade.utils.image_format import (
    IMAGE_ENDINGS,
    UNREAD_ENDINGS,
    opened_image,
)

#: Names of folders beside `train/` that hold its test split, the first that
#: is there.
TEST_FOLDERS = ("test", "testing", "validation", "valid", "val")
#: Images that take more bytes than this are read again whenever they are
#: needed.
BYTES_IN_MEMORY = 256 * 1024 * 1024
#: Folders that systems and tools leave behind.
_NOT_CLASSES = ("__MACOSX", "@eaDir")
_GRAY = ("1", "L", "I", "I;16", "I;16B", "I;16L", "I;16N")
_PHOTOS = IMAGE_ENDINGS | UNREAD_ENDINGS
#: Damaged files that a message names.
_NAMED = 5


def image_folder(path, seed, options=None):
    """Loads images from one folder per class, or from `train/` and `test/`.

    Hidden files and folders, and files that are no images by their ending,
    are left out; photos in other formats, such as HEIC, count as damaged.
    Images in folders below a class's folder are of the class.

    Args:
        path: folder.
        seed: int, of the splits.
        options: `ReadingOptions`. Defaults to `None`: their defaults.

    Returns:
        `Splits`.

    Raises:
        ValueError: there are no images, too few of a class, or files that
            are damaged.
    """
    options = options or ReadingOptions()
    root = Path(path).expanduser()
    if not root.is_dir():
        raise ValueError(
            f"Data spec 'dir:{path}': expected a folder with one folder a "
            "class. There is none at that path."
        )
    parts = _parts(root, path)
    names = ordered_names(folder for folder, _ in parts["train"])
    files = {
        part: (
            [file for _, file in found],
            label_indices([folder for folder, _ in found], names),
        )
        for part, found in parts.items()
    }
    images = _ImageFiles(
        [file for rows, _ in files.values() for file in rows], path, options
    )
    columns, first = {}, 0
    for part, (rows, labels) in files.items():
        index = np.arange(first, first + len(rows))
        first += len(rows)
        left = index[images.whole[index]]
        columns[part] = (images.rows(left), labels[images.whole[index]], left)
    x, y, index = columns["train"]
    test = columns.get("test")
    return splits_from_arrays(
        f"dir:{path}",
        x,
        y,
        names,
        seed,
        test=None if test is None else test[:2],
        map_fn=images.map_fn,
        scale=options.scale,
        groups=images.contents(index),
        test_groups=None if test is None else images.contents(test[2]),
    )


class _ImageFiles:
    """Image files, read once and kept in memory as far as they fit.

    Attributes:
        format: `ImageFormat` that all are read in.
        whole: bool array, which files can be read.
    """

    def __init__(self, files, path, options):
        self._files, self._path = files, path
        self.whole = np.ones(len(files), bool)
        damaged = {}
        sizes, all_gray = set(), True
        if options.image_size is None or options.channels is None:
            for number, head in enumerate(_mapped(_head, files)):
                if isinstance(head, ValueError):
                    damaged[number] = head
                    continue
                sizes.add(head[0])
                all_gray = all_gray and head[1]
        self.format = options.image_format(sizes, all_gray)
        shape = (self.format.height, self.format.width, self.format.channels)
        self._pixels = None
        if len(files) * np.prod(shape) <= BYTES_IN_MEMORY:
            self._pixels = np.zeros((len(files), *shape), "uint8")
        if self._pixels is not None or options.skip_damaged:
            for number, pixels in enumerate(_mapped(self._read, files)):
                if isinstance(pixels, ValueError):
                    damaged[number] = pixels
                elif self._pixels is not None:
                    self._pixels[number] = pixels
        elif not sizes:
            for number, head in enumerate(_mapped(_head, files)):
                if isinstance(head, ValueError):
                    damaged[number] = head
        self._report(damaged, options.skip_damaged)

    @property
    def map_fn(self):
        """TensorFlow function from a file's name to pixels, or `None`."""
        if self._pixels is not None:
            return None
        image_format = self.format

        def read(file):
            import tensorflow as tf

            pixels = tf.numpy_function(
                lambda name: image_format.pixels(os.fsdecode(name)),
                [file],
                tf.uint8,
                stateful=False,
            )
            return tf.ensure_shape(
                pixels,
                (
                    image_format.height,
                    image_format.width,
                    image_format.channels,
                ),
            )

        return read

    def rows(self, index):
        """Pixels of some files, or their names where they are not kept."""
        if self._pixels is not None:
            return self._pixels[index]
        return np.array([self._files[number] for number in index], object)

    def contents(self, index):
        """Array that is equal for files of equal content."""
        if self._pixels is not None:
            return np.array(
                [_digest(self._pixels[number].tobytes()) for number in index]
            )
        sizes = [os.path.getsize(self._files[number]) for number in index]
        often = collections.Counter(sizes)
        # Files of different sizes are different: few have to be read.
        return np.array(
            [
                _digest(Path(self._files[number]).read_bytes())
                if often[size] > 1
                else str(size)
                for number, size in zip(index, sizes, strict=True)
            ]
        )

    def _read(self, file):
        try:
            return self.format.pixels(file)
        except ValueError as error:
            return error

    def _report(self, damaged, skip):
        if not damaged:
            return
        self.whole[list(damaged)] = False
        numbers = sorted(damaged)
        names = ", ".join(f"'{self._files[n]}'" for n in numbers[:_NAMED])
        more = len(numbers) - _NAMED
        names += f" and {more} more" if more > 0 else ""
        if skip:
            warnings.warn(
                f"dir:{self._path}: left out {len(numbers)} of "
                f"{len(self._files)} files that cannot be read: {names}.",
                stacklevel=4,
            )
            return
        raise ValueError(
            f"dir:{self._path}: {len(numbers)} of {len(self._files)} files "
            f"cannot be read: {names}. The first: {damaged[numbers[0]]} Or "
            "pass `skip_damaged=True` to leave such files out."
        )


def _parts(root, path):
    """Dict of part to a list of `(class, file)`."""
    folders = {one.name.lower(): one for one in _folders(root)}
    train = folders.get("train", folders.get("training"))
    # A test folder without folders in it has no labels: it is no test split.
    own = [
        folders[name]
        for name in TEST_FOLDERS
        if name in folders and _folders(folders[name])
    ]
    if train is None or not own:
        return {"train": _class_files(train or root, path)}
    names = [
        ordered_names(class_name(one.name) for one in _folders(folder))
        for folder in (train, own[0])
    ]
    if names[0] != names[1]:
        raise ValueError(
            f"dir:{path}: '{train.name}' and '{own[0].name}' must have the "
            f"same class folders. Received: {names[0]} and {names[1]}."
        )
    return {
        "train": _class_files(train, path),
        "test": _class_files(own[0], path),
    }


def _class_files(root, path):
    found, others = [], collections.Counter()
    folders = _folders(root)
    empty = []
    for folder in folders:
        files = _visible_files(folder)
        images = [one for one in files if _ending(one) in _PHOTOS]
        others.update(_ending(one) for one in set(files) - set(images))
        found += [(class_name(folder.name), file) for file in images]
        if not images:
            empty.append(folder.name)
    if not found:
        endings = f", with files that end in {sorted(others)}" if others else ""
        raise ValueError(
            f"'{root}' holds no images. Expected: one folder a class, with "
            f"{sorted(IMAGE_ENDINGS)} files in it. Received: the folders "
            f"{[one.name for one in folders][:10]}{endings}."
        )
    if len(folders) == 1:
        inside = [one.name for one in _folders(folders[0])]
        if len(inside) > 1:
            raise ValueError(
                f"Data spec 'dir:{path}' needs at least two classes. "
                f"Received: one folder, '{folders[0].name}', with the folders "
                f"{inside[:10]} in it. Did you mean 'dir:{folders[0]}'?"
            )
    if empty:
        raise ValueError(
            f"dir:{path}: the folders {empty[:10]} hold no images. Expected: "
            "at least 4 examples of every class. Remove a folder that is no "
            "class."
        )
    return found


def _folders(root):
    """Folders that may be classes, by name."""
    return sorted(
        one
        for one in root.iterdir()
        if one.is_dir()
        and not one.name.startswith(".")
        and one.name not in _NOT_CLASSES
    )


def _visible_files(folder):
    """Paths of all files below a folder, apart from hidden ones."""
    files = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _NOT_CLASSES
        )
        files += [
            os.path.join(where, name)
            for name in sorted(names)
            if not name.startswith(".")
        ]
    return files


def _ending(file):
    return os.path.splitext(file)[1].lower()


def _head(file):
    """`((height, width), whether it is grayscale)` of a file, or its error."""
    try:
        with opened_image(file) as image:
            width, height = image.size
            if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
                width, height = height, width
            gray = image.mode in _GRAY and not image.has_transparency_data
            return (height, width), gray
    except ValueError as error:
        return error


def _mapped(function, files):
    """Yields a function's results in order, computed in a few threads."""
    workers = min(4, os.cpu_count() or 1)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        # In pieces: results that nobody has taken yet are kept in memory.
        for start in range(0, len(files), 64):
            yield from pool.map(function, files[start : start + 64])


def _digest(content):
    return hashlib.blake2b(content, digest_size=16).hexdigest()
