"""ffdi: a competition runner for deepfake images, from face images to a submission and one ONNX graph.

Importing ffdi turns off the telemetry of its libraries, which they would send when they are imported. A variable that
is set in the environment already keeps its value.
"""

import os
import sys

__version__ = "0.1.0"

for _name, _value in {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime
    "NO_ALBUMENTATIONS_UPDATE": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}.items():
    os.environ.setdefault(_name, _value)
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # OpenVINO then imports its own stub
