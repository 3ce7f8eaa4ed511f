"""A model for use as one ONNX file: the heads of a language, for machines without torch.

The package itself imports nothing: onnx and onnxruntime are an extra, and take seconds to import.
"""
