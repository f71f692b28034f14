"""ffdi: a competition runner for deepfake images, from face images to a submission and one ONNX graph.

Importing ffdi turns off the telemetry of its libraries, which they would send when they are imported. A variable that
is set in the environment already keeps its value.

The functions for notebooks, such as `ffdi.train`, are imported when one of them is used first.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ffdi.notebook import *  # noqa: F403

__version__ = "0.1.0"
__all__ = [  # noqa: F405
    "FFDIError",
    "Stopped",
    "cache",
    "compare",
    "distill",
    "doctor",
    "ensemble_submit",
    "export_onnx",
    "find_lr",
    "kaggle_bundle",
    "landmarks",
    "leaderboard",
    "predict_onnx",
    "pseudo_label",
    "report",
    "score",
    "submit",
    "sweep",
    "train",
    "verify",
]

for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_name, _value)
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then imports its own stub


if not TYPE_CHECKING:  # a type checker would take every name for one of ffdi

    def __getattr__(name: str) -> Any:
        if name in __all__:
            return getattr(import_module("ffdi.notebook"), name)
        raise AttributeError(f"module 'ffdi' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
