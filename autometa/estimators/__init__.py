"""scikit-learn estimators around everything below."""

from autometa.estimators.classifier import FewShotClassifier
from autometa.estimators.regressor import FewShotRegressor
from autometa.estimators.persistence import load

__all__ = ["FewShotClassifier", "FewShotRegressor", "load"]
