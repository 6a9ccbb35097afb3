"""Make the old model files of this folder; see README.md for the command."""

import sys
from pathlib import Path

import joblib
import sklearn
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

folder = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)
bunch = load_iris(as_frame=True)
X = bunch.data.set_axis(["sepal_length", "sepal_width", "petal_length", "petal_width"], axis=1)
y = bunch.target_names[bunch.target].astype(object)
version = sklearn.__version__

logistic = LogisticRegression(C=0.5, max_iter=500, multi_class="auto")
joblib.dump(logistic.fit(X.to_numpy(), y), folder / f"logistic-{version}.joblib")
forest = RandomForestClassifier(n_estimators=5, max_depth=3, max_features="sqrt", random_state=0)
joblib.dump(forest.fit(X, y), folder / f"forest-{version}.joblib", compress=3)
scaled = ColumnTransformer([("scale", StandardScaler(), list(X))])
pipeline = make_pipeline(scaled, SVC(C=2.0, probability=True, random_state=0))
joblib.dump(pipeline.fit(X, y), folder / f"pipeline-{version}.pkl", compress=("gzip", 3))
search = GridSearchCV(
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=500)), {"logisticregression__C": [0.1, 1.0]}, cv=3
)
joblib.dump(search.fit(X, bunch.target), folder / f"search-{version}.joblib", compress=3)
