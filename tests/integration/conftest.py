"""What pytest must not import here."""

#: Only Triton's own Python can.
collect_ignore = ["triton_model.py"]
