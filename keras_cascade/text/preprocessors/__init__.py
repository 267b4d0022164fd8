"""What makes a model's inputs out of texts: one kind a file."""

from keras_cascade.text.preprocessors.keras_hub_preprocessor import (
    KerasHubPreprocessor,
)
from keras_cascade.text.preprocessors.tokenizer_preprocessor import (
    TokenizerPreprocessor,
)
from keras_cascade.text.preprocessors.vectorization_preprocessor import (
    VectorizationPreprocessor,
)

KINDS = (
    TokenizerPreprocessor, VectorizationPreprocessor, KerasHubPreprocessor,
)  # fmt: skip


def get(preprocessor, feeds):
    """The `TextPreprocessor` around what a user brings.

    Args:
        preprocessor: `keras_cascade.text.Tokenizer`, adapted
            `keras.layers.TextVectorization`, or a KerasHub preprocessor with
            a tokenizer.
        feeds: tuple of names out of `keras_cascade.text.tokenizer.FEEDS`,
            what the model takes.

    Raises:
        ValueError: something else.
    """
    for kind in KINDS:
        if kind.takes(preprocessor):
            return kind(preprocessor, feeds)
    raise ValueError(
        "Expected `preprocessor` to be a `keras_cascade.text.Tokenizer`, an "
        "adapted `keras.layers.TextVectorization` or a KerasHub preprocessor "
        "such as `BertTextClassifierPreprocessor`. Received: "
        f"{type(preprocessor).__name__}. `keras_cascade.text.train_tokenizer"
        "(texts)` makes the first."
    )
