"""Pure statistics: numbers in, measured numbers with their uncertainty out. No thresholds, no Django, no files."""
