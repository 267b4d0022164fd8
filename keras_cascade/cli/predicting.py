"""Earlier name of `keras_cascade.cli.prediction`, kept for 0.1.0's imports."""

from keras_cascade.cli.prediction import predict_input, read_input

__all__ = ["predict_input", "read_input"]
