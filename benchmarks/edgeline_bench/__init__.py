"""Edgeline's benchmark: the clock, the workers, the reports and their comparison."""
