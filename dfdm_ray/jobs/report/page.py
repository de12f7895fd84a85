"""The page of a video: its content drawn as HTML, with pictures as data URIs."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from dfdm_ray.io.terminal import visible
from dfdm_ray.jobs.report.words import SCALE

Content = Mapping[str, Any]
_SHOWN_TO = 6
"""log10 of the likelihood ratio at which the drawn scale ends."""


def name_of(video_id: str) -> str:
    """Return the name of a page's files without extension: readable, and different for different videos."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", video_id.rpartition("/")[2]).strip("-")[:48] or "video"
    return f"{readable}-{hashlib.sha256(video_id.encode()).hexdigest()[:10]}"


def data_uri(jpeg: bytes) -> str:
    """Return a JPEG file as a URI that contains it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def pictures_of(content: Content, seen: Content) -> dict[str, Any]:
    """Return the pictures of a page by face: frames with the box in percent, and crops.

    Args:
        seen: Row of :data:`stages.EXPLAINED`, or nothing.
    """
    frames, maps = seen.get("frames") or [], seen.get("maps") or []
    faces = []
    for number, face in enumerate(content["faces"]):
        boxes = dict(zip(face["pts_s"], face["boxes_xyxy"], strict=False))
        here = [frame for frame in frames if frame["pts_s"] in boxes]
        crops = maps[number]["crops"] if number < len(maps) and maps[number] else []
        faces.append(
            {
                "frames": [_boxed(frame, boxes[frame["pts_s"]]) for frame in here],
                "crops": [data_uri(crop) for crop in crops],
            }
        )
    used = any(face["frames"] for face in faces)
    return {
        "faces": faces,
        "frames_without_faces": [] if used else [data_uri(frame["jpeg"]) for frame in frames],
    }


def _boxed(frame: Content, box_xyxy: Sequence[float]) -> dict[str, Any]:
    width, height = frame["size"]
    left, top, right, bottom = box_xyxy
    shares = {
        "left": left / width,
        "top": top / height,
        "width": (right - left) / width,
        "height": (bottom - top) / height,
    }
    percents = {name: round(100 * share, 2) for name, share in shares.items()}
    return {"pts_s": frame["pts_s"], "src": data_uri(frame["jpeg"]), **percents}


def html(content: Content, pictures: Mapping[str, Any]) -> str:
    """Return the page."""
    deciding = content["answer"]["deciding_face"] or 0
    crops = pictures["faces"][deciding]["crops"] if pictures["faces"] else []
    return _TEMPLATES.get_template("page.html.j2").render(
        page=content,
        pictures=pictures,
        deciding=deciding,
        portrait=crops[len(crops) // 2] if crops else None,
        file_facts=_file_facts(content),
        method_facts=_method_facts(content),
    )


def _file_facts(content: Content) -> list[tuple[str, Any]]:
    file, video = content["file"], content["video"]
    size = f"{file['width_px']} x {file['height_px']} pixels" if file.get("width_px") else None
    duration, rate = file.get("duration_s"), file.get("frame_rate_hz")
    return [
        ("place", video["uri"]),
        ("SHA-256 of the whole file", file.get("sha256")),
        ("size", f"{file['size_bytes']:,} bytes"),
        ("container", file.get("container")),
        (
            "codec",
            ", ".join(str(file[name]) for name in ("codec", "profile", "pixel_format") if file.get(name)),
        ),
        ("picture", size),
        ("frames per second", rate),
        ("length", None if duration is None else f"{duration:.2f} s, {file['num_frames']} frames"),
        ("encoder", (file.get("tags") or {}).get("encoder")),
        ("content credentials (C2PA)", _C2PA[file.get("has_c2pa")] if "has_c2pa" in file else None),
        ("remark", file.get("remark")),
    ]


_C2PA = {
    True: "the file contains a manifest; it was not validated",
    False: "none found",
    None: "not looked for in this kind of file",
}


def _method_facts(content: Content) -> list[tuple[str, Any]]:
    method, found = content["method"], content["found"]
    frames = f"{found['num_frames_scored']} of {found['num_frames_in_video']}"
    return [
        ("tool", f"{method['tool']} {method['tool_version']}"),
        ("network", method["network"]),
        ("checkpoint", method["checkpoint"]),
        ("SHA-256 of the checkpoint", method["checkpoint_sha256"]),
        ("note in the checkpoint", method["checkpoint_note"]),
        ("face detector", found["detector"]),
        ("frames examined", frames),
        ("faces found", found["num_faces"]),
        ("examined", f"{method['scored_from']} to {method['scored_until']}"),
    ]


def _bands() -> list[tuple[float, float, str]]:
    edges = [0, *(min(limit, _SHOWN_TO) for limit, _ in SCALE)]
    pairs = zip(edges, edges[1:], (word for _, word in SCALE), strict=False)
    return [(low, high, word) for low, high, word in pairs if high > low]


_TEMPLATES = Environment(
    loader=PackageLoader("dfdm_ray.jobs.report", "."),
    autoescape=select_autoescape(["html.j2"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["visible"] = lambda value: visible(str(value))
_TEMPLATES.globals["bands"] = _bands()


def render(template: str, **values: Any) -> str:
    """Return a template of this folder, filled in."""
    return _TEMPLATES.get_template(template).render(values)
