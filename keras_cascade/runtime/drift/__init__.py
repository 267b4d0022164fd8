"""Drift detection: sequential tests of live scores against calibration."""
