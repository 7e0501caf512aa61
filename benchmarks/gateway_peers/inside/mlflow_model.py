"""Write the model as MLflow keeps it: ``python mlflow_model.py <model.joblib> <folder>``."""

import sys

import joblib
import mlflow.sklearn

model, folder = sys.argv[1:]
mlflow.sklearn.save_model(
    joblib.load(model), folder, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle"
)
