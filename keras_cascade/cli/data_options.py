"""Options of reading a data set, and the data that a model takes."""

import dataclasses
import functools
import inspect
from typing import Annotated

import typer

# NumPy and the readers are imported in the functions: `--help` answers at once.

PARAMETERS = {
    "scale": Annotated[
        str | None,
        typer.Option(
            help="values of images: 0-1, 0-255, -1-1 or none (bytes)",
            metavar="NAME",
            hidden=True,
        ),
    ],
    "image_size": Annotated[
        str | None,
        typer.Option(help="of images", metavar="HxW", hidden=True),
    ],
    "color": Annotated[
        str | None,
        typer.Option(help="rgb or grayscale", metavar="NAME", hidden=True),
    ],
    "text_column": Annotated[
        str, typer.Option(help="of a table", metavar="NAME", hidden=True)
    ],
    "label_column": Annotated[
        str, typer.Option(help="of a table", metavar="NAME", hidden=True)
    ],
    "skip_damaged": Annotated[
        bool,
        typer.Option(
            "--skip-damaged",
            help="leave out files and rows that cannot be read",
            hidden=True,
        ),
    ],
}
DEFAULTS = {
    "scale": None,
    "image_size": None,
    "color": None,
    "text_column": "text",
    "label_column": "label",
    "skip_damaged": False,
}


@dataclasses.dataclass(frozen=True)
class DataOptions:
    """Options of reading a data set; `None` is what the models take.

    Args:
        scale: str, or `None` for what the models take.
        image_size: str `"HxW"` or tuple `(height, width)`, or `None` for what
            the models take.
        color: str, or `None` for what the models take.
        text_column: str. Defaults to `"text"`.
        label_column: str. Defaults to `"label"`.
        skip_damaged: bool. Defaults to `False`.
    """

    scale: str | None = None
    image_size: str | tuple | None = None
    color: str | None = None
    text_column: str = "text"
    label_column: str = "label"
    skip_damaged: bool = False

    def __post_init__(self):
        if self.scale is not None:
            from keras_cascade.utils.image_format import check_scale

            check_scale(self.scale)
        if isinstance(self.image_size, str):
            object.__setattr__(self, "image_size", _parsed(self.image_size))

    def load(self, spec, seed, scale=None, image_size=None, channels=None):
        """Loads a data spec by these options, and otherwise as a model does.

        Args:
            spec: str, data spec.
            seed: int, of the splits.
            scale: str, the model's. Defaults to `None`: not known.
            image_size: tuple, the model's. Defaults to `None`: not known.
            channels: int, the model's. Defaults to `None`: not known.

        Returns:
            `Splits`.
        """
        from keras_cascade import datasets

        color = self.color
        if color is None and channels in (1, 3):
            color = "grayscale" if channels == 1 else "rgb"
        return datasets.load(
            spec,
            seed,
            scale=self.scale or scale or "0-1",
            image_size=self.image_size or image_size,
            color=color,
            text_column=self.text_column,
            label_column=self.label_column,
            skip_damaged=self.skip_damaged,
        )

    def load_for_bundle(self, spec, seed, bundle):
        """Loads a data spec as a bundle's manifest says.

        Args:
            spec: str, data spec.
            seed: int, of the splits.
            bundle: `Bundle`.

        Returns:
            `Splits`, with the labels of the bundle's classes.
        """
        from keras_cascade.utils.image_format import scale_of

        scale = size = channels = None
        entry, *others = bundle.inputs
        if not others and len(entry["shape"]) == 4:
            scale, (*size, channels) = scale_of(entry), entry["shape"][1:]
            size = None if None in size else tuple(size)
        splits = self.load(spec, seed, scale, size, channels)
        if splits.scale is not None and not (scale or self.scale):
            raise ValueError(
                "Expected a bundle of images with values from 0 to 1, from "
                "-1 to 1 or from 0 to 255. Received: the range "
                f"{entry['range']}. Say what it takes with --scale, one of "
                "0-1, 0-255, -1-1, none."
            )
        return splits.matched(bundle.classes)


def with_data_options(command):
    """Decorator that adds the options of reading a data set to a command.

    Args:
        command: function with an argument `data_options`, a `DataOptions`.
    """
    signature = inspect.signature(command)
    own = [
        one
        for one in signature.parameters.values()
        if one.name != "data_options"
    ]
    added = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=DEFAULTS[name],
            annotation=kind,
        )
        for name, kind in PARAMETERS.items()
    ]

    @functools.wraps(command)
    def with_options(**arguments):
        options = {name: arguments.pop(name) for name in PARAMETERS}
        return command(**arguments, data_options=DataOptions(**options))

    with_options.__signature__ = signature.replace(parameters=[*own, *added])
    with_options.__annotations__ = {
        one.name: one.annotation for one in (*own, *added)
    }
    return with_options


def _parsed(text):
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(
            "Expected --image-size HEIGHTxWIDTH, such as 224x224. Received: "
            f"'{text}'."
        )
    return int(height), int(width)
