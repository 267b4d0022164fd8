"""Which models export to what: a zoo, each artifact run and compared."""
