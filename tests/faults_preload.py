"""What every process of `faults` begins with."""

import sklearn.model_selection  # noqa: F401

import ffdi.deploy.export
import ffdi.deploy.proving
import ffdi.engines.local
import ffdi.pipeline.doctor
import ffdi.pipeline.ensemble_submit
import ffdi.pipeline.export_onnx
import ffdi.pipeline.predict_onnx
import ffdi.pipeline.train_folds
import ffdi.training.fold  # noqa: F401
import tests.faults  # noqa: F401
