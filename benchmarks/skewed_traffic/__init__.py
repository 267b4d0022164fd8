"""Benchmark of class-specific distillation under skewed traffic."""
