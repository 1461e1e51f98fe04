"""Which of scikit-learn's estimators a file may name: constructors and calls of these run no code from elsewhere.

Left out are those that read files or call what a text names: ``CountVectorizer``, ``HashingVectorizer`` and
``TfidfVectorizer`` (``input="filename"``), ``FunctionTransformer``, ``GridSearchCV`` and ``RandomizedSearchCV``
(``pre_dispatch`` is evaluated), and whatever is new in a later version. They need trust by their import path.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from autometa.errors import InvalidFile
from autometa.files.components import path_of

SAFE = frozenset(
    """
    ARDRegression AdaBoostClassifier AdaBoostRegressor AdditiveChi2Sampler AffinityPropagation
    AgglomerativeClustering BaggingClassifier BaggingRegressor BayesianGaussianMixture BayesianRidge BernoulliNB
    BernoulliRBM Binarizer Birch BisectingKMeans CCA CalibratedClassifierCV CategoricalNB ClassicalMDS
    ClassifierChain ColumnTransformer ComplementNB DBSCAN DecisionTreeClassifier DecisionTreeRegressor
    DictVectorizer DictionaryLearning DummyClassifier DummyRegressor ElasticNet ElasticNetCV EllipticEnvelope
    EmpiricalCovariance ExtraTreeClassifier ExtraTreeRegressor ExtraTreesClassifier ExtraTreesRegressor
    FactorAnalysis FastICA FeatureAgglomeration FeatureHasher FeatureUnion FixedThresholdClassifier
    FrozenEstimator GammaRegressor GaussianMixture GaussianNB GaussianProcessClassifier GaussianProcessRegressor
    GaussianRandomProjection GenericUnivariateSelect GradientBoostingClassifier GradientBoostingRegressor
    GraphicalLasso GraphicalLassoCV HDBSCAN HistGradientBoostingClassifier HistGradientBoostingRegressor
    HuberRegressor IncrementalPCA IsolationForest Isomap IsotonicRegression IterativeImputer KBinsDiscretizer
    KMeans KNNImputer KNeighborsClassifier KNeighborsRegressor KNeighborsTransformer KernelCenterer
    KernelDensity KernelPCA KernelRidge LabelBinarizer LabelEncoder LabelPropagation LabelSpreading Lars LarsCV
    Lasso LassoCV LassoLars LassoLarsCV LassoLarsIC LatentDirichletAllocation LedoitWolf
    LinearDiscriminantAnalysis LinearRegression LinearSVC LinearSVR LocalOutlierFactor LocallyLinearEmbedding
    LogisticRegression LogisticRegressionCV MDS MLPClassifier MLPRegressor MaxAbsScaler MeanShift MinCovDet
    MinMaxScaler MiniBatchDictionaryLearning MiniBatchKMeans MiniBatchNMF MiniBatchSparsePCA MissingIndicator
    MultiLabelBinarizer MultiOutputClassifier MultiOutputRegressor MultiTaskElasticNet MultiTaskElasticNetCV
    MultiTaskLasso MultiTaskLassoCV MultinomialNB NMF NearestCentroid NearestNeighbors
    NeighborhoodComponentsAnalysis Normalizer NuSVC NuSVR Nystroem OAS OPTICS OneClassSVM OneHotEncoder
    OneVsOneClassifier OneVsRestClassifier OrdinalEncoder OrthogonalMatchingPursuit OrthogonalMatchingPursuitCV
    OutputCodeClassifier PCA PLSCanonical PLSRegression PLSSVD PassiveAggressiveClassifier
    PassiveAggressiveRegressor PatchExtractor Perceptron Pipeline PoissonRegressor PolynomialCountSketch
    PolynomialFeatures PowerTransformer QuadraticDiscriminantAnalysis QuantileRegressor QuantileTransformer
    RANSACRegressor RBFSampler RFE RFECV RadiusNeighborsClassifier RadiusNeighborsRegressor
    RadiusNeighborsTransformer RandomForestClassifier RandomForestRegressor RandomTreesEmbedding RegressorChain
    Ridge RidgeCV RidgeClassifier RidgeClassifierCV RobustScaler SGDClassifier SGDOneClassSVM SGDRegressor SVC
    SVR SelectFdr SelectFpr SelectFromModel SelectFwe SelectKBest SelectPercentile SelfTrainingClassifier
    SequentialFeatureSelector ShrunkCovariance SimpleImputer SkewedChi2Sampler SparseCoder SparsePCA
    SparseRandomProjection SpectralBiclustering SpectralClustering SpectralCoclustering SpectralEmbedding
    SplineTransformer StackingClassifier StackingRegressor StandardScaler TSNE TargetEncoder TfidfTransformer
    TheilSenRegressor TransformedTargetRegressor TruncatedSVD TunedThresholdClassifierCV TweedieRegressor
    VarianceThreshold VotingClassifier VotingRegressor
    """.split()  # noqa: SIM905
)
"""Names of the estimators that need no trust."""
NAMES_FOLDERS = frozenset({"memory"})
"""Parameters that name a folder of joblib, whose files are pickles: reading one runs what is in it."""


@functools.cache
def scikit_learn() -> dict[str, type]:
    """Return the estimators of the installed scikit-learn, by name."""
    from sklearn.utils.discovery import all_estimators

    return dict(all_estimators())


def needs_trust(kind: type) -> str | None:
    """Return the import path by which an estimator of scikit-learn must be trusted; None where it need not be."""
    return None if kind.__name__ in SAFE else path_of(kind)


def folder_parameter(params: Mapping[str, Any]) -> str | None:
    """Return the name of a parameter that names a folder whose content would be run; None if there is none."""
    return next((name for name in sorted(NAMES_FOLDERS & params.keys()) if params[name] is not None), None)


def make_scikit_learn(name: str, params: Mapping[str, Any], trusted: Collection[str]) -> Any:
    """Make an estimator that a file names.

    Raises
    ------
    InvalidFile
        It is not one of the installed scikit-learn or needs trust, or a parameter names a folder.
    """
    kind = scikit_learn().get(name)
    if kind is None:
        raise InvalidFile(f"the file names {name!r}, which the installed scikit-learn does not have.")
    path = needs_trust(kind)
    if path is not None and path not in trusted:
        raise InvalidFile(
            f"the file names {name!r} of scikit-learn, which may read files or run code that its parameters name; if "
            f"you know the file, load with trusted=[{path!r}]."
        )
    folder = folder_parameter(params)
    if folder is not None:
        raise InvalidFile(
            f"the file names the folder {params[folder]!r:.60} as {folder} of {name!r}, and scikit-learn would run "
            f"what lies there; save the estimator with {folder}=None."
        )
    return kind(**params)
