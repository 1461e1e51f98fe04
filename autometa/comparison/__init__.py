"""Tune learners on task distributions with Optuna and judge them on the same held-out tasks."""

from autometa.comparison.auto import AutoFewShotClassifier, AutoFewShotRegressor
from autometa.comparison.compare import compare, work
from autometa.comparison.execution.progress_display import ProgressDisplay
from autometa.comparison.result import Comparison

__all__ = ["AutoFewShotClassifier", "AutoFewShotRegressor", "Comparison", "ProgressDisplay", "compare", "work"]
