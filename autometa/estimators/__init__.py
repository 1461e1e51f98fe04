"""scikit-learn estimators around everything below."""

from autometa.estimators.agent import MetaAgent
from autometa.estimators.classifier import FewShotClassifier
from autometa.estimators.persistence import load
from autometa.estimators.regressor import FewShotRegressor

__all__ = ["FewShotClassifier", "FewShotRegressor", "MetaAgent", "load"]
