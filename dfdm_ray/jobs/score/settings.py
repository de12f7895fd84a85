"""Arguments of the stages of score. Nothing here needs Ray, so that the Python API runs without it."""

from collections.abc import Mapping
from typing import Any, cast

from dfdm_ray.clips.child import CutVideos
from dfdm_ray.clips.spec import ClipSpec, clip_spec
from dfdm_ray.config import Align, CropConfig, FacesConfig, PlanConfig
from dfdm_ray.engine.record import changes
from dfdm_ray.models.checkpoint import LoadedModel
from dfdm_ray.models.preprocessing import Preprocessing


def making_clips(
    model: LoadedModel, *, plan: PlanConfig, faces: FacesConfig, weights: bytes, max_pixels: int
) -> tuple[ClipSpec, dict[str, Any]]:
    """Return the clips that ``model`` takes, and the arguments of :class:`MakeClips` but for the limits.

    Args:
        weights: Content of the weights file of the face detector.

    Raises:
        UserError: If the model takes no such clips.
    """
    trained = model.preprocessing
    spec = clip_spec(
        plan,
        faces,
        CropConfig(size=trained.crop_size, margin=trained.margin, align=cast(Align, trained.align)),
        num_frames=model.config.num_frames,
        strategy=trained.strategy,
        runs=trained.runs,
        clips=trained.clips,
        most_faces=faces.most,
    )
    work = CutVideos(faces=faces, spec=spec, weights=weights, max_pixels=max_pixels)
    sizes = {"shape": spec.shape, "most_faces": spec.most_faces}
    return spec, {"work": work, "detector": faces.detector, **sizes}


def other_faces(trained: Preprocessing, settings: Mapping[str, Any]) -> list[str]:
    """Return one text for each setting of face detection that differs from the training's."""
    both = trained.faces.keys() & settings.keys()
    return changes({name: trained.faces[name] for name in both}, {name: settings[name] for name in both})
