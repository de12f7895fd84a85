import io
from dataclasses import replace

import av
import numpy as np
import pytest

from dfdm_ray.errors import UserError
from dfdm_ray.jobs.train.augment import Clip, augment_clip, through_h264
from dfdm_ray.jobs.train.config import NO_AUGMENTATION, ClipAugmentConfig

CHANGES = ("flip", "h264", "jpeg", "resize", "blur", "colour", "shift")


def still_clip(frames: int = 4, side: int = 48) -> Clip:
    """The same picture in all frames: gradients, edges and a little noise."""
    y, x = np.mgrid[:side, :side]
    picture = np.stack([4 * x, 4 * y, 80 * ((x // 6 + y // 6) % 2)], axis=2) + np.random.randint(
        0, 30, (side, side, 1)
    )
    return np.repeat(picture[None].clip(0, 255).astype(np.uint8), frames, axis=0)


def test_nothing_switched_on_changes_nothing() -> None:
    clip = still_clip()
    np.testing.assert_array_equal(augment_clip(clip, NO_AUGMENTATION, np.random.default_rng(0)), clip)


@pytest.mark.parametrize("change", CHANGES)
def test_each_change_alone_acts_keeps_the_shape_and_is_the_same_in_all_frames(change: str) -> None:
    clip = still_clip()
    config = replace(NO_AUGMENTATION, **{change: 1.0})
    changed = augment_clip(clip, config, np.random.default_rng(3))
    assert (changed.shape, changed.dtype) == (clip.shape, np.uint8)
    assert (changed != clip).any()
    spread = np.abs(changed.astype(int) - changed[0]).mean()
    assert spread < (2 if change == "h264" else 1e-9)  # H.264 codes the frames one after another
    again = augment_clip(clip, config, np.random.default_rng(3))
    np.testing.assert_array_equal(again, changed)


def test_a_flip_is_the_mirror_image() -> None:
    clip = still_clip()
    flipped = augment_clip(clip, replace(NO_AUGMENTATION, flip=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(flipped, clip[:, :, ::-1])


@pytest.mark.parametrize(("frames", "side"), [(1, 48), (3, 49), (10, 112)])
def test_h264_gives_back_as_many_frames_and_loses_more_at_a_higher_crf(frames: int, side: int) -> None:
    clip = still_clip(frames, side)
    errors = [np.abs(through_h264(clip, crf).astype(int) - clip).mean() for crf in (4, 30)]
    assert errors[0] < errors[1] < 40


def through_a_file(clip: Clip, crf: int) -> Clip:
    """H.264 through a container, with a decoder of as many threads as CPUs."""
    content, side = io.BytesIO(), clip.shape[1]
    with av.open(content, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "ultrafast", "threads": "1"}
        for frame in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    content.seek(0)
    with av.open(content) as coded:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in coded.decode(video=0)])


@pytest.mark.parametrize("crf", [0, 10, 28])
def test_h264_without_a_file_gives_the_pictures_of_a_file(crf: int) -> None:
    clip = still_clip(5, 64)
    np.testing.assert_array_equal(through_h264(clip, crf), through_a_file(clip, crf))


def test_colour_is_brightness_then_contrast_about_the_mean_then_saturation() -> None:
    clip = still_clip()
    changed = augment_clip(clip, replace(NO_AUGMENTATION, colour=1.0), np.random.default_rng(7))
    rng = np.random.default_rng(7)
    rng.random(3)  # whether to flip, to shift, to change the colour
    brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
    values = clip * brightness
    values = (values - values.mean()) * contrast + values.mean()
    grey = (values @ [0.299, 0.587, 0.114])[..., None]
    expected = ((values - grey) * saturation + grey).round().clip(0, 255)
    assert np.abs(changed - expected).max() <= 1


def test_a_shift_moves_all_frames_alike_by_whole_pixels_and_repeats_the_edge() -> None:
    clip = still_clip(side=50)
    moved = set()
    for seed in range(40):
        changed = augment_clip(clip, replace(NO_AUGMENTATION, shift=1.0), np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        rng.random(2)
        down, right = rng.integers(-3, 4, 2)
        rows, columns = (np.arange(50) + by for by in (down, right))
        np.testing.assert_array_equal(changed, clip[:, rows.clip(0, 49)][:, :, columns.clip(0, 49)])
        moved.add((down, right))
    assert len(moved) > 20


def test_the_picture_stays_recognisable_under_all_changes_at_once() -> None:
    every = ClipAugmentConfig(**dict.fromkeys(CHANGES, 1.0) | {"flip": 0.0})
    clip = still_clip()
    changed = augment_clip(clip, every, np.random.default_rng(5))
    assert np.corrcoef(changed.ravel(), clip.ravel())[0, 1] > 0.5


@pytest.mark.parametrize(
    "wrong", [{"flip": 1.5}, {"blur": -0.1}, {"h264_crf": (30, 20)}, {"h264_crf": (0, 60)}]
)
def test_settings_that_make_no_sense_are_reported(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"--recipe\.augment\."):
        ClipAugmentConfig(**wrong)  # type: ignore[arg-type]
