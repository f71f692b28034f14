"""Imports of every process of `faults`."""

import sklearn.model_selection  # noqa: F401

import ffdi.commands.cache
import ffdi.commands.doctor
import ffdi.commands.ensemble_submit
import ffdi.commands.export_onnx
import ffdi.commands.find_lr
import ffdi.commands.kaggle_bundle
import ffdi.commands.leaderboard
import ffdi.commands.predict_onnx
import ffdi.commands.report
import ffdi.commands.serve
import ffdi.commands.shared.shift
import ffdi.commands.submit
import ffdi.commands.sweep
import ffdi.commands.train_folds
import ffdi.commands.verify
import ffdi.engines.local
import ffdi.export.equivalence
import ffdi.export.onnx
import ffdi.inference.explain
import ffdi.inference.server
import ffdi.reporting.charts
import ffdi.training.fold
import ffdi.training.tools.lr_finder
import ffdi.training.tools.profiler  # noqa: F401
import tests.faults  # noqa: F401
