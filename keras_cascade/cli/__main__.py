"""Runs `keras-cascade` as `python -m keras_cascade.cli`."""

from keras_cascade.cli.main import main

if __name__ == "__main__":
    main()
