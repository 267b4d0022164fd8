"""Files that pytest must not import."""

#: Only Triton's own Python can.
collect_ignore = ["triton_model.py"]
