"""What cannot be used as a policy's file is one clear line."""

import sys

import pytest

from persim_gym.onnx_files import OnnxPolicy


def test_without_the_extra_the_error_names_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match=r"pip install 'persim-gym\[onnx\]'"):
        OnnxPolicy(tmp_path / "policy.onnx")


def test_no_file_and_no_model_are_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ValueError, match="no ONNX file"):
        OnnxPolicy(tmp_path / "policy.onnx")
    (tmp_path / "policy.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match="cannot be read as an ONNX model") as error:
        OnnxPolicy(tmp_path / "policy.onnx")
    assert "\n" not in str(error.value)
