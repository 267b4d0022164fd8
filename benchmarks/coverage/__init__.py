"""Coverage of exporters: a zoo of models, each artifact run and compared."""
