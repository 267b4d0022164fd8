"""Data of a cascade: read as its models take them, and noted in its file."""

from keras_cascade.cli.data_options import DataOptions
from keras_cascade.cli.model_inputs import ModelInputs, common_inputs
from keras_cascade.utils.image_format import scale_of_range


def splits_of(cascade, spec, seed, data_options=None):
    """Loads a data spec as a cascade takes it, with its classes' labels.

    Args:
        cascade: `Cascade`.
        spec: str, data spec.
        seed: int, of the splits.
        data_options: `DataOptions`. Defaults to `None`: as in the training.

    Returns:
        `Splits`.

    Raises:
        ValueError: nothing tells the scale of images, or the data set has
            other classes than the cascade.
    """
    record = cascade.data_record
    splits = splits_for(
        [cascade.teacher, cascade.student],
        spec,
        seed,
        data_options or DataOptions(),
        must_know_scale=True,
        record=record,
    )
    if record.class_names is None:
        return splits
    return splits.matched(record.class_names)


def remember_data(cascade, splits):
    """Notes in a cascade's data record how its data were read.

    Args:
        cascade: `Cascade`.
        splits: `Splits`.
    """
    record = cascade.data_record
    record.class_names = list(splits.class_names)
    if splits.scale is not None:
        height, width, channels = splits.input_shape
        record.images = {
            "scale": splits.scale,
            "image_size": [height, width],
            "channels": channels,
        }


def splits_for(models, spec, seed, data_options, must_know_scale, record=None):
    """`Splits` of a data spec, read as models take them.

    Args:
        models: list of `keras.Model`.
        spec: str, data spec.
        seed: int, of the splits.
        data_options: `DataOptions`, which come first.
        must_know_scale: bool. Raises where images were read and nothing tells
            their scale.
        record: `DataRecord`, which comes second. Defaults to `None`.
    """
    taken = common_inputs(models)
    if record is not None and record.images is not None:
        taken = ModelInputs(**record.images)
    scale = data_options.scale or taken.scale
    if scale is None and record is not None and record.input_ranges:
        (seen, *others) = record.input_ranges
        if seen is not None and not others:
            scale = scale_of_range(seen)
    splits = data_options.load(
        spec, seed, scale, taken.image_size, taken.channels
    )
    if splits.scale is not None and scale is None and must_know_scale:
        raise ValueError(
            f"'{spec}' holds images, and the models do not tell which values "
            "they take: no layer before their first weights scales them. "
            "Expected: --scale 0-1, 0-255, -1-1 or none (bytes), as the "
            "teacher was trained. Where it needs other values, put its "
            "preprocessing into the model as layers."
        )
    return splits
