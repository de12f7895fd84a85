from pathlib import Path

import numpy as np
import pytest
import torch
from support.videos import VideoRecipe, write_video

from dfdm_ray.generators.swap_autoencoder import build_generator
from dfdm_ray.jobs.generate.config import SwapTrainConfig
from dfdm_ray.jobs.generate.extract import VideoFaces
from dfdm_ray.jobs.generate.plan import Scene
from dfdm_ray.jobs.generate.tasks import Training, convert
from dfdm_ray.labels import Generator

FACE = np.array([(60, 50), (90, 50), (75, 65), (63, 80), (87, 80)], np.float32)
"""Eyes, nose and corners of the mouth, pixels."""


def test_a_conversion_stays_off_gpus_which_it_has_not_reserved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    source = write_video(tmp_path / "s.mp4", VideoRecipe(num_frames=3, size=(160, 128)))
    faces = VideoFaces(landmarks=np.stack([FACE] * 3), faces=np.zeros((0, 64, 64, 3), np.uint8))
    (tmp_path / "faces.npz").write_bytes(faces.to_bytes())
    training = Training(
        generator=Generator.FACESWAP,
        pair=("id0", "id1"),
        faces={"a": (), "b": ()},
        folder=str(tmp_path),
        config=SwapTrainConfig(width=0.03),
        seed=0,
    )
    network = build_generator(training.generator, width=training.config.width)
    torch.save(network.state_dict(), training.path("network.pt"))
    scene = Scene(identity="id0", number=0, uri=str(source), start=0, stop=3)
    convert(training, scene, str(tmp_path / "faces.npz"), "b", {10: str(tmp_path / "out.mp4")})
    assert (tmp_path / "out.mp4").stat().st_size > 0
