"""Reads a bundle's texts as its model was trained to. No TensorFlow."""

from keras_cascade.bundle import BundleError
from keras_cascade.text.text_columns import as_strings
from keras_cascade.text.tokenizer import Tokenizer

#: Of every kind of text that has fooled a tokenizer. A bundle states what each
#: becomes, so that a reader in another language can be tried.
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
    """Makes a model's inputs of texts.

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
    def load(cls, bundle, part):
        """The reader of a bundle's student or teacher.

        Args:
            bundle: `keras_cascade.bundle.Bundle`.
            part: `"student"` or `"teacher"`.

        Returns:
            `TextReader`, or `None` where that model takes what the cascade
            takes.

        Raises:
            BundleError: the tokenizer does not make what the manifest states.
        """
        entry = (bundle.manifest.get(part) or {}).get("text")
        if entry is None:
            return None
        file = bundle.path / entry["file"]
        try:
            tokenizer = Tokenizer.from_file(
                file, entry["lengths"], entry["pad"]
            )
        except ValueError as error:
            raise BundleError(f"'{file}' cannot be used: {error}") from error
        reader = cls(tokenizer, entry["fields"], entry["feeds"])
        reader.check(entry["vectors"], file)
        return reader

    def __call__(self, inputs):
        """Reads a batch.

        Args:
            inputs: dict of the cascade's input name to array of str, or of
                UTF-8 bytes.

        Returns:
            Dict of the model's input name to int32 array `(rows, length)`;
            and bool array `(rows,)`, which texts were too long for the model
            and were cut.
        """
        columns = [as_strings(inputs[name]) for name in self.fields]
        made = self.tokenizer.encode(*columns)
        fed = {name: made[kind] for name, kind in self.feeds.items()}
        return fed, made["truncated"]

    def vectors(self):
        """List of a text and its token ids, without padding.

        Of a model of pairs also the second text, and which token is whose.
        """
        if len(self.fields) == 1:
            asked = [{"text": text} for text in PROBES]
        else:
            asked = [
                {"text": text, "second": second}
                for text, second in zip(PROBES, PROBES[::-1], strict=True)
            ]
        return [{**one, **self._tokens(one)} for one in asked]

    def check(self, vectors, where):
        """Raises a `BundleError` where this machine tokenizes otherwise.

        Args:
            vectors: list, as `vectors` returns it.
            where: str, for the error.
        """
        for one in vectors:
            found = self._tokens(one)
            if any(one[name] != ids for name, ids in found.items()):
                import tokenizers

                found = found["token_ids"]

                raise BundleError(
                    f"'{where}' does not make the tokens that the manifest "
                    f"states, of {one['text'][:40]!r}. Expected: "
                    f"{one['token_ids'][:8]}. Received: {found[:8]}, from "
                    f"`tokenizers` {tokenizers.__version__}. Install the "
                    "version that the manifest names, or export again."
                )

    def _tokens(self, asked):
        pair = [asked[name] for name in ("text", "second") if name in asked]
        made = self.tokenizer.encode(*([one] for one in pair))
        count = int(made["padding_mask"].sum())
        names = ("token_ids", "segment_ids")[: len(pair)]
        return {name: made[name][0, :count].tolist() for name in names}
