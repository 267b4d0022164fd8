"""Text preprocessors: texts to a model's token ids, one kind per file."""

from keras_cascade.text.preprocessors.keras_hub_preprocessor import (
    KerasHubPreprocessor,
)
from keras_cascade.text.preprocessors.text_preprocessor import (
    TextPreprocessor,
)
from keras_cascade.text.preprocessors.tokenizer_preprocessor import (
    TokenizerPreprocessor,
)
from keras_cascade.text.preprocessors.vectorization_preprocessor import (
    VectorizationPreprocessor,
)

__all__ = [
    "KerasHubPreprocessor",
    "TextPreprocessor",
    "TokenizerPreprocessor",
    "VectorizationPreprocessor",
    "get",
]

KINDS = (
    TokenizerPreprocessor, VectorizationPreprocessor, KerasHubPreprocessor,
)  # fmt: skip


def __dir__():
    return list(__all__)


def get(preprocessor, feeds) -> TextPreprocessor:
    """Wraps a user's preprocessor in the `TextPreprocessor` of its kind.

    Args:
        preprocessor: `keras_cascade.text.Tokenizer`, adapted
            `keras.layers.TextVectorization`, or a KerasHub preprocessor with
            a tokenizer.
        feeds: tuple of names out of `keras_cascade.text.tokenizer.FEEDS`, the
            inputs of the model.

    Returns:
        `TextPreprocessor`.

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
