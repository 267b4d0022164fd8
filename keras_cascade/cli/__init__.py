"""The command line: keras-cascade."""
