"""Whether live scores are still those of the calibration examples."""
