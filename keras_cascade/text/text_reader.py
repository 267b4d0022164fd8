"""Tokenization of a bundle's texts. No TensorFlow, no Keras."""

from keras_cascade.bundle import BundleError
from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer

#: Texts of every kind that tokenizers are known to disagree on. A bundle states
#: the tokens of each, so that a reader in another language can be checked.
PROBES = (
    "Where is my card?",
    "don't STOP  now...",
    "a\tb\nc",
    "3,141.59 € + 50% (approx.)",
    "naïve café, Straße, Ærøskøbing",
    "cafe\u0301 A\u030angstro\u0308m",
    "İstanbul \u0131ss\u0131z \ufb01ne Ⅷ ½",
    "Привет, как дела?",
    "你好世界\uff0c再见。",
    "こんにちは ｶﾀｶﾅ",
    "안녕하세요",
    "שלום עולם مرحبا",
    "नमस्ते दुनिया",
    "👩‍👩‍👧 👍🏽 🇫🇷!",
    "zero\u200bwidth soft\u00adhyphen nb\u00a0space\u3000wide",
    "[PAD] [UNK] <s> ##ing {x: \\y}",
    "x" * 300,
    "word " * 300,
)


class TextReader:
    """Maps texts to the inputs of a model.

    Args:
        tokenizer: `Tokenizer`.
        fields: tuple of one input name, or two for pairs of texts.
        feeds: dict of the model's input name to one of
            `keras_cascade.text.tokenizer.FEEDS`.
    """

    def __init__(self, tokenizer, fields, feeds):
        self.tokenizer = tokenizer
        self.fields = tuple(fields)
        self.feeds = dict(feeds)

    @classmethod
    def load(cls, bundle, part) -> "TextReader | None":
        """Loads the reader of a bundle's student or teacher.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.
            part: `"student"` or `"teacher"`.

        Returns:
            `TextReader`, or `None` where that model takes the cascade's
            inputs as they are.

        Raises:
            BundleError: the tokenizer does not make the tokens that the
                manifest states.
        """
        entry = (bundle.manifest.get(part) or {}).get("text")
        if entry is None:
            return None
        file = bundle.path / entry["file"]
        try:
            content = bundle.read(entry["file"]).decode("utf-8")
            tokenizer = Tokenizer(content, entry["lengths"], entry["pad"])
        except ValueError as error:
            raise BundleError(f"'{file}' cannot be used: {error}") from error
        reader = cls(tokenizer, entry["fields"], entry["feeds"])
        reader.check(entry["vectors"], file)
        return reader

    def __call__(self, inputs):
        """Tokenizes a batch.

        Args:
            inputs: dict of the cascade's input name to array of str, or of
                UTF-8 bytes.

        Returns:
            Dict of the model's input name to int32 array `(rows, length)`;
            and bool array `(rows,)`, `True` for texts that were too long for
            the model and are cut.
        """
        columns = [as_strings(inputs[name]) for name in self.fields]
        encoding = self.tokenizer.encode(*columns)
        inputs = {name: encoding[kind] for name, kind in self.feeds.items()}
        return inputs, encoding["truncated"]

    def vectors(self) -> list[dict]:
        """Returns each probe with its token ids, without padding.

        For a model of pairs also the second text and the segment ids.
        """
        if len(self.fields) == 1:
            probes = [{"text": text} for text in PROBES]
        else:
            probes = [
                {"text": text, "second": second}
                for text, second in zip(PROBES, PROBES[::-1], strict=True)
            ]
        return [{**probe, **self._tokens(probe)} for probe in probes]

    def check(self, vectors: list[dict], where):
        """Raises a `BundleError` where this machine tokenizes otherwise.

        Args:
            vectors: list, as `vectors` returns it.
            where: path or str, for the error.
        """
        for vector in vectors:
            tokens = self._tokens(vector)
            if any(vector[name] != ids for name, ids in tokens.items()):
                import tokenizers

                raise BundleError(
                    f"'{where}' does not make the tokens that the manifest "
                    f"states, of {vector['text'][:40]!r}. Expected: "
                    f"{vector['token_ids'][:8]}. Received: "
                    f"{tokens['token_ids'][:8]}, from "
                    f"`tokenizers` {tokenizers.__version__}. Install the "
                    "version that the manifest names, or export again."
                )

    def _tokens(self, vector):
        texts = [vector[name] for name in ("text", "second") if name in vector]
        encoding = self.tokenizer.encode(*([text] for text in texts))
        count = int(encoding["padding_mask"].sum())
        names = ("token_ids", "segment_ids")[: len(texts)]
        return {name: encoding[name][0, :count].tolist() for name in names}
