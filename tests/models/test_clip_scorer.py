import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from dfdm_ray.errors import UserError
from dfdm_ray.labels import GENERATORS
from dfdm_ray.models.checkpoint import LoadedModel, Preprocessing, random_model
from dfdm_ray.models.dma_sta import DmaStaConfig, normalize
from dfdm_ray.models.inference import ClipScorer, computes_in_bfloat16

pytestmark = pytest.mark.slow

CONFIG = DmaStaConfig(backbone="resnet18", num_frames=3)
PREPROCESSING = Preprocessing(crop_size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = random_model(CONFIG, seed=2)
    with torch.no_grad():
        model.get_parameter("ta.fc.0.weight").abs_()  # features are not negative: keep its units alive
    return LoadedModel(
        model=model.eval(),
        config=CONFIG,
        classes=GENERATORS,
        preprocessing=PREPROCESSING,
        note="",
    )


@pytest.fixture(scope="module")
def crops() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32, 3), dtype=np.uint8)


def test_scores_equal_a_direct_forward(loaded: LoadedModel, crops: npt.NDArray[np.uint8]) -> None:
    pixels = torch.from_numpy(crops).permute(0, 1, 4, 2, 3).float() / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    with torch.no_grad():
        expected = loaded.model((pixels - mean) / std)
    scores = ClipScorer(loaded, device="cpu").score(crops)
    np.testing.assert_allclose(scores.logits, expected.logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores.temporal_attention, expected.temporal_attention, rtol=1e-4)
    assert scores.logits.dtype == scores.temporal_attention.dtype == np.float32
    assert scores.logits.shape == (4, 5)
    assert scores.temporal_attention.shape == (4, 3)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_scores_are_those_of_a_loop_over_frames_with_its_batch_norms(
    backbone: Any, loaded: LoadedModel, crops: npt.NDArray[np.uint8]
) -> None:
    """The authors' way: one frame after another, pixels planar, batch norms as they were trained."""
    config = replace(CONFIG, backbone=backbone)
    model = random_model(config, seed=4).eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training
            shape, mean, var = module.weight.shape, module.running_mean, module.running_var
            assert mean is not None
            assert var is not None
            mean.copy_(torch.randn(shape, generator=generator) / 5)
            var.copy_(torch.rand(shape, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(shape, generator=generator) + 0.5)
            module.bias.data.copy_(torch.randn(shape, generator=generator) / 5)
    x = normalize(torch.from_numpy(crops), PREPROCESSING.mean, PREPROCESSING.std).contiguous()
    with torch.inference_mode():
        features = torch.stack([model.features(frame) for frame in x.unbind(1)], dim=1)
        assert model.ta is not None
        weights = model.ta(features)
        clip = (weights.unsqueeze(2) * features).sum(1) / weights.sum(1, keepdim=True)
        expected = model.fc(clip).softmax(1)
    got = ClipScorer(replace(loaded, model=model, config=config), device="cpu").score(crops).logits
    probabilities = torch.from_numpy(got).softmax(1)
    assert probabilities.argmax(1).tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(probabilities, expected, atol=1e-3)
    assert expected.max() > 0.25  # so that it is no tie everywhere


def test_a_clips_score_does_not_depend_on_its_neighbours(
    loaded: LoadedModel, crops: npt.NDArray[np.uint8]
) -> None:
    scorer = ClipScorer(loaded, device="cpu")
    together = scorer.score(crops)
    alone = [scorer.score(crops[i : i + 1]).logits[0] for i in range(len(crops))]
    np.testing.assert_allclose(together.logits, alone, rtol=1e-4, atol=1e-5)
    assert np.ptp(together.logits, axis=0).min() > 1e-4  # the clips do differ


def test_bf16_is_close_to_fp32(loaded: LoadedModel, crops: npt.NDArray[np.uint8]) -> None:
    exact = ClipScorer(loaded, device="cpu").score(crops)
    rounded = ClipScorer(loaded, device="cpu", precision="bf16").score(crops)
    assert not np.array_equal(rounded.logits, exact.logits)
    np.testing.assert_allclose(rounded.logits, exact.logits, atol=0.05 * np.abs(exact.logits).max())
    assert rounded.logits.dtype == np.float32


def test_read_only_and_strided_crops_are_scored_as_they_are(
    loaded: LoadedModel, crops: npt.NDArray[np.uint8], recwarn: pytest.WarningsRecorder
) -> None:
    scorer = ClipScorer(loaded, device="cpu")
    frozen = crops.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(scorer.score(frozen).logits, scorer.score(crops).logits)
    np.testing.assert_array_equal(scorer.score(crops[::-1]).logits, scorer.score(crops[::-1].copy()).logits)
    assert not recwarn.list


def test_no_clips_give_empty_scores(loaded: LoadedModel) -> None:
    scores = ClipScorer(loaded, device="cpu").score(np.empty((0, 3, 32, 32, 3), np.uint8))
    assert scores.logits.shape == (0, 5)
    assert scores.temporal_attention.shape == (0, 3)


def test_a_scorer_leaves_the_loaded_model_as_it_was(
    loaded: LoadedModel, crops: npt.NDArray[np.uint8]
) -> None:
    fresh = replace(loaded, model=random_model(CONFIG, seed=2))  # no other test has used it
    before = {key: (value.clone(), value.stride()) for key, value in fresh.model.state_dict().items()}
    ClipScorer(fresh, device="cpu", precision="bf16").score(crops)
    assert fresh.model.training
    for key, value in fresh.model.state_dict().items():
        assert torch.equal(value, before[key][0])
        assert value.stride() == before[key][1]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 4, 32, 32, 3), np.uint8),  # another T
        ((2, 3, 48, 48, 3), np.uint8),  # another crop size than the model was trained on
        ((2, 3, 3, 32, 32), np.uint8),  # channels first
        ((3, 32, 32, 3), np.uint8),  # no batch
        ((2, 3, 32, 32, 3), np.float32),  # not bytes
    ],
)
def test_crops_the_model_was_not_made_for_are_refused(
    loaded: LoadedModel, shape: tuple[int, ...], dtype: Any
) -> None:
    with pytest.raises(ValueError, match=r"must be uint8 \(N, 3, 32, 32, 3\), got "):
        ClipScorer(loaded, device="cpu").score(np.zeros(shape, dtype))


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "cuda:x", "xpu", "meta"])
def test_a_device_that_is_not_here_is_a_one_line_user_error(loaded: LoadedModel, device: str) -> None:
    with pytest.raises(UserError, match="device") as caught:
        ClipScorer(loaded, device=device)
    assert len(str(caught.value).splitlines()) == 1
    assert repr(device) in str(caught.value)


def test_bfloat16_is_used_on_gpus_and_on_cpus_with_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert computes_in_bfloat16(torch.device("cuda"))
    for facts, found in (({"avx512_bf16": True}, True), ({"avx512_f": True}, False), ({}, False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda facts=facts: facts, raising=False)
        assert computes_in_bfloat16(torch.device("cpu")) == found


def test_an_unknown_precision_is_refused_by_value(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="fp32 or bf16, got 'fp16'"):
        ClipScorer(loaded, device="cpu", precision="fp16")  # type: ignore[arg-type]  # the point of the test


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_gives_the_scores_of_the_cpu(
    loaded: LoadedModel, crops: npt.NDArray[np.uint8], precision: Any
) -> None:
    exact = ClipScorer(loaded, device="cpu").score(crops)
    scores = ClipScorer(loaded, device="cuda", precision=precision).score(crops)
    np.testing.assert_allclose(scores.logits, exact.logits, atol=0.05 * np.abs(exact.logits).max())


def test_a_worker_gets_its_model_ready_without_the_slow_imports(tiny_checkpoint: Path) -> None:
    script = f"""
import sys
from dfdm_ray.models.checkpoint import load_checkpoint
from dfdm_ray.models.inference import ClipScorer
ClipScorer(load_checkpoint(open({str(tiny_checkpoint)!r}, "rb").read(), name="tiny"), device="cpu")
print(*sorted({{"torch", "torchvision", "torch._dynamo", "sympy"}} & set(sys.modules)))
"""
    told = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert told.stdout.split() == ["torch"]
