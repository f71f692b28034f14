"""What every process of `faults` begins with."""

import sklearn.model_selection  # noqa: F401

import ffdi.app.judge
import ffdi.app.server
import ffdi.deploy.export
import ffdi.deploy.proving
import ffdi.engines.local
import ffdi.pipeline.cache
import ffdi.pipeline.doctor
import ffdi.pipeline.ensemble_submit
import ffdi.pipeline.export_onnx
import ffdi.pipeline.find_lr
import ffdi.pipeline.kaggle_bundle
import ffdi.pipeline.leaderboard
import ffdi.pipeline.predict_onnx
import ffdi.pipeline.report
import ffdi.pipeline.serve
import ffdi.pipeline.shift
import ffdi.pipeline.submit
import ffdi.pipeline.sweep
import ffdi.pipeline.train_folds
import ffdi.pipeline.verify
import ffdi.report.plots
import ffdi.training.fold
import ffdi.training.profile
import ffdi.training.range_test  # noqa: F401
import tests.faults  # noqa: F401
