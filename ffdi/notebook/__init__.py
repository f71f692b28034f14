"""The commands as functions, for notebooks: `ffdi.train(...)` is `invoke train-folds`. `ffdi` has these names too."""

from ffdi.core.calls import Stopped as Stopped
from ffdi.core.errors import FFDIError as FFDIError
from ffdi.notebook.exports import ensemble_submit as ensemble_submit
from ffdi.notebook.exports import export_onnx as export_onnx
from ffdi.notebook.exports import kaggle_bundle as kaggle_bundle
from ffdi.notebook.exports import predict_onnx as predict_onnx
from ffdi.notebook.exports import submit as submit
from ffdi.notebook.scores import compare as compare
from ffdi.notebook.scores import leaderboard as leaderboard
from ffdi.notebook.scores import report as report
from ffdi.notebook.scores import score as score
from ffdi.notebook.scores import verify as verify
from ffdi.notebook.training import cache as cache
from ffdi.notebook.training import distill as distill
from ffdi.notebook.training import doctor as doctor
from ffdi.notebook.training import find_lr as find_lr
from ffdi.notebook.training import landmarks as landmarks
from ffdi.notebook.training import pseudo_label as pseudo_label
from ffdi.notebook.training import sweep as sweep
from ffdi.notebook.training import train as train
