"""Numbers from frozen inputs: pure functions from tables and scores to what the judgements look at. No bars here."""

from gates.measure import curves, fairness, metric, slices, versus_champion

__all__ = ["curves", "fairness", "metric", "slices", "versus_champion"]
