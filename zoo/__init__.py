"""A model zoo and transfer-learning tool: a folder of photos in, one checked ONNX file out."""

__version__ = "0.1.0"
