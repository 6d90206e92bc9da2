"""A file is written when onnxruntime computes from it what was expected, and only then."""

import numpy as np
import pytest
from torch import nn

pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

from persim_gym.onnx_files import OnnxPolicy, write_onnx  # noqa: E402

OBS = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)


class Doubled(nn.Module):
    def forward(self, obs):
        return 2 * obs


@pytest.mark.slow
def test_what_differs_by_more_than_rounding_is_not_written(tmp_path):
    file = tmp_path / "folder" / "policy.onnx"
    with pytest.raises(ValueError, match="onnxruntime computes outputs that differ by 0.01"):
        write_onnx(Doubled(), {"obs": OBS}, {"action": 2 * OBS + 0.01}, file, {})
    with pytest.raises(ValueError, match="differ by inf"):
        write_onnx(Doubled(), {"obs": OBS}, {"action": 2 * OBS[:, :2]}, file, {})
    assert not file.exists()
    assert write_onnx(Doubled(), {"obs": OBS}, {"action": 2 * OBS}, file, {"what": "twice"}) == 0
    policy = OnnxPolicy(file)
    assert policy.facts["what"] == "twice"
    np.testing.assert_array_equal(policy.predict(OBS[:1])[0], 2 * OBS[:1])
    with pytest.raises(ValueError, match=r"shape \(4,\); this policy takes \(3,\) or \(B, 3\)"):
        policy.predict(np.zeros(4))
    write_onnx(Doubled(), {"obs": OBS}, {"action": 2 * OBS}, file, {})  # Our own file is replaced,


def test_a_file_of_others_stays(tmp_path):
    file = tmp_path / "policy.onnx"
    file.write_bytes(b"not ours")
    with pytest.raises(ValueError, match="was not written by persim"):
        write_onnx(Doubled(), {"obs": OBS}, {"action": 2 * OBS}, file, {})
    assert file.read_bytes() == b"not ours"
