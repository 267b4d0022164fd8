"""`python -m keras_cascade.cli`, the same as `keras-cascade`."""

from keras_cascade.cli.main import main

if __name__ == "__main__":
    main()
