"""ONNX files: what is trained here, to be used without this package; and policies of such files, used here."""

from persim_gym.onnx_files.runtime import OnnxPolicy
from persim_gym.onnx_files.write import write_onnx

__all__ = ["OnnxPolicy", "write_onnx"]
