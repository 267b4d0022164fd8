"""Keras's own tokenizers as a standard `tokenizer.json`.

Nothing here is taken on trust: export compares the tokens of every
calibration text with those that the model was trained on.
"""
