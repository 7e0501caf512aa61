"""From logged rows to measured metrics: numbers and verdicts, no Django; ``rollout.judge`` concludes from them.

Every metric is judged three ways with evidence that is valid at each look (``stats.sequential``): harm proven, harm of
the tolerated size excluded, or neither yet. Rows come from the log since the stage began, so that a look that is
repeated says the same; ``CanaryState`` keeps sums of them, so that a look costs what is new.
"""

from rollout.analysis.canary import CanaryState, measure_canary
from rollout.analysis.rows import BusinessValues, CanaryRows, ShadowRows
from rollout.analysis.shadow import Promise, loss_differences, measure_shadow

__all__ = [
    "BusinessValues",
    "CanaryRows",
    "CanaryState",
    "Promise",
    "ShadowRows",
    "loss_differences",
    "measure_canary",
    "measure_shadow",
]
