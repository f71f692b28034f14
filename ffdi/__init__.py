"""ffdi: a competition runner for deepfake images, from face images to a submission and one ONNX graph."""

__version__ = "0.1.0"
