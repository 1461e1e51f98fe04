"""Meta-training and judging; the only outer loop there is."""

from autometa.training.evaluation import Evaluation, evaluate
from autometa.training.outer_loop import MetaTraining, check_compatible, check_shares

__all__ = ["Evaluation", "MetaTraining", "check_compatible", "check_shares", "evaluate"]
