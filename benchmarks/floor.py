"""CPU time of each step of `dfdm-ray score` on one core, compared with the usual way.

The steps run one after another in one process. The number of CPUs over the sum of the steps is the highest
throughput this machine could reach. The usual way decodes every frame with OpenCV, detects the face at full
size in ten evenly spaced frames and runs the network frame by frame, as the authors' code does.

python benchmarks/floor.py [--quick] [--repeats 5] [--ours-only]
"""

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from corpus import originals, sizes_mb
from report import OUT, Table, parser, save, show
from same_work import BATCH, spec_of

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.checkpoints import write_untrained

from dfdm_ray.clips.cut import ClipFacts, load_detector, make_detector, prepare_clips
from dfdm_ray.clips.spec import ClipSpec
from dfdm_ray.config import FaceConfig, LimitsConfig
from dfdm_ray.faces.crops import crop_face
from dfdm_ray.faces.tracks import find_tracks
from dfdm_ray.labels import QUALITIES
from dfdm_ray.models.checkpoint import LoadedModel, load_checkpoint
from dfdm_ray.models.dma_sta import ClipNetwork, normalize
from dfdm_ray.models.inference import ClipScorer
from dfdm_ray.video.decode import VideoReader
from dfdm_ray.video.frames import FrameBatch
from dfdm_ray.video.index import PacketIndex
from dfdm_ray.video.plan import Run, plan_frames
from dfdm_ray.video.source import VideoSource

STEPS = ("open", "decode, to RGB", "detect", "crop", "Parquet", "model")
PARTS = ("alone: demux", "alone: decode", "alone: to RGB")
USUAL = ("every frame (OpenCV)", "detect, full size", "crop", "frame by frame")


def checkpoint(backbone: str) -> Path:
    """Return an untrained checkpoint for ten frames of 224 pixels."""
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{backbone}.pt"
    return path if path.exists() else write_untrained(path, backbone=backbone, num_frames=10, crop_size=224)


class Clock:
    """CPU seconds of named steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def __call__(self, step: str, work: Callable[[], Any]) -> Any:
        """Return ``work()`` and add its CPU time to ``step``."""
        started = time.process_time()
        result = work()
        self.seconds[step] = self.seconds.get(step, 0.0) + time.process_time() - started
        return result


class Bench:
    """The functions to measure, with the model and the detectors loaded."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.spec: ClipSpec = spec_of(loaded)
        self.loaded = loaded
        self.scorer = ClipScorer(loaded, device="cpu")
        self.detector, weights = load_detector(FaceConfig())
        self.full_size = make_detector(FaceConfig(max_side=4096), weights)

    def ours(self, path: Path) -> tuple[dict[str, float], float]:
        """Return the CPU seconds of each step, and the ratio of frames decoded to frames used."""
        clock = Clock()
        reader = clock("open", lambda: VideoReader(str(path)))
        with reader:
            batches = clock("decode, to RGB", lambda: self._batches(reader))
            decoded = reader.num_frames_decoded
        tracks = clock("detect", lambda: [find_tracks(one, self.detector, every=5) for one in batches])
        runs = list(zip(batches, tracks, strict=True))
        crops = clock("crop", lambda: [crop for run in runs for crop in self._cut(*run)])
        clip = np.stack(crops)[None]
        scores = clock("model", lambda: self.scorer.score(np.repeat(clip, BATCH, axis=0)))
        clock.seconds["model"] /= BATCH
        row = pa.table({"logits": scores.logits[:1].tolist(), "boxes": [tracks[0][0].boxes_xyxy.tolist()]})
        clock("Parquet", lambda: pq.write_table(row, pa.BufferOutputStream(), compression="zstd"))
        return clock.seconds, decoded / len(crops)

    def _batches(self, reader: VideoReader) -> list[FrameBatch]:
        return list(reader.read_planned(planned(reader.index), flexible=True))

    def parts(self, path: Path) -> dict[str, float]:
        """Return the CPU seconds of demuxing, decoding and conversion for the whole plan, with PyAV alone."""
        clock = Clock()
        source = VideoSource(str(path), max_pixels=LimitsConfig.max_pixels)
        frames: list[av.VideoFrame] = []
        for run in planned(source.index):
            packets = clock(PARTS[0], partial(demuxed, source, run))
            frames += clock(PARTS[1], partial(decoded, source.stream.codec_context, packets))
        clock(PARTS[2], lambda: [frame.to_ndarray(format="rgb24") for frame in frames])
        source.close()
        return clock.seconds

    def _cut(self, batch: FrameBatch, tracks: list) -> list[np.ndarray]:
        boxes = tracks[0].boxes_xyxy
        return [crop_face(f, b, size=224, margin=0.3) for f, b in zip(batch.rgb, boxes, strict=True)]

    def whole(self, path: Path) -> float:
        """Return the CPU seconds of all steps up to the crops in one call, as in a decode worker."""
        clock = Clock()
        clock("all", lambda: prepare_clips(str(path), self.detector, self.spec, ClipFacts()))
        return clock.seconds["all"]

    def usual(self, path: Path) -> dict[str, float]:
        """Return the CPU seconds of each step of the usual way."""
        clock = Clock()
        rgb = clock("every frame (OpenCV)", lambda: decode_all(path))
        found = clock("detect, full size", lambda: [self.full_size.detect([frame])[0] for frame in rgb])
        boxes = [one.boxes_xyxy[0] for one in found]
        cut = lambda: [crop_face(f, b, size=224, margin=0.3) for f, b in zip(rgb, boxes, strict=True)]  # noqa: E731
        crops = clock("crop", cut)
        clock("frame by frame", lambda: frame_by_frame(self.loaded.model, np.stack(crops)[None]))
        return clock.seconds


@torch.inference_mode()
def frame_by_frame(model: ClipNetwork, crops_u8: np.ndarray) -> torch.Tensor:
    """Return logits as the authors' loop does: frame by frame, batch norms not folded, planar pixels."""
    x = normalize(torch.from_numpy(crops_u8).to(next(model.parameters()).device)).contiguous()
    features = torch.stack([model.features(frame) for frame in x.unbind(1)], dim=1)
    weights = model.ta(features)
    return model.fc((weights.unsqueeze(2) * features).sum(1) / weights.sum(1, keepdim=True))


def planned(index: PacketIndex) -> tuple[Run, ...]:
    """Return the runs of frames, ten in total, that ``score`` decodes by default."""
    return plan_frames("keyframe_runs", index.keys, num_frames=len(index), wanted=10, runs=2)


def demuxed(source: VideoSource, run: Run) -> list[av.Packet]:
    """Return the packets of ``run``."""
    return list(islice(source.packets_from(run.key), run.num_decoded))


def decoded(context: av.VideoCodecContext, packets: list[av.Packet]) -> list[av.VideoFrame]:
    """Return the frames of ``packets``, which begin with a key frame."""
    context.flush_buffers()
    return [frame for packet in (*packets, None) for frame in context.decode(packet)]


def decode_all(path: Path) -> list[np.ndarray]:
    """Decode every frame with one thread and return ten evenly spaced frames as RGB."""
    video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    wanted = set(
        np.linspace(0, int(video.get(cv2.CAP_PROP_FRAME_COUNT)) - 1, 10).round().astype(int).tolist()
    )
    frames: list[np.ndarray] = []
    number = 0
    while True:
        there, frame = video.read()
        if not there:
            return frames
        if number in wanted:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        number += 1


def measure(bench: Bench, paths: list[Path], repeats: int, *, ours_only: bool) -> dict[str, object]:
    """Return CPU milliseconds per video of one quality: medians and ranges over ``paths`` and repeats."""
    rows: dict[str, list[float]] = {}
    ratios = []
    for repeat in range(repeats):
        for number, path in enumerate(paths):  # interleaved, so that other load affects all alike
            steps, ratio = bench.ours(path)
            ratios.append(ratio)
            if not ours_only:
                rows.setdefault("crops in one call", []).append(bench.whole(path))
                steps |= bench.parts(path)
            usual = bench.usual(path) if repeat == number % repeats and not ours_only else {}
            for name, seconds in [*steps.items(), *((f"usual: {n}", s) for n, s in usual.items())]:
                rows.setdefault(name, []).append(seconds)
    return {
        "ms": {name: 1000 * statistics.median(values) for name, values in rows.items()},
        "spread": {name: 1000 * (max(v) - min(v)) for name, v in rows.items()},
        "decoded_per_used": statistics.mean(ratios),
    }


def table_of(content: Mapping[str, Any]) -> Table:
    """Return the table of what this benchmark wrote as JSON."""
    results = [content["results"][str(crf)] for crf in QUALITIES]
    named = (*STEPS, *PARTS, "crops in one call", *(f"usual: {step}" for step in USUAL))
    rows = [
        [name, *(f"{one['ms'][name]:.1f} ± {one['spread'][name] / 2:.1f}" for one in results)]
        for name in named
        if name in results[0]["ms"]
    ]
    rows += [[name, *(f"{cell:.2f}" for cell in cells)] for name, cells in content["ratios"].items()]
    sizes = [f"crf {crf} ({content['sizes_mb'][str(crf)]:.1f} MB)" for crf in QUALITIES]
    return Table(title="CPU time of each step", headings=["CPU ms per video, one core", *sizes], rows=rows)


def ratios_of(results: dict[str, dict]) -> dict[str, list[float]]:
    """Return the ratios of interest by name, one value per quality."""
    times = [result["ms"] for result in results.values()]
    if f"usual: {USUAL[0]}" not in times[0]:
        return {}
    ours = [sum(ms[name] for name in STEPS[:4]) for ms in times]
    usual = [sum(ms[f"usual: {name}"] for name in USUAL[:3]) for ms in times]
    return {
        "frames decoded / used": [result["decoded_per_used"] for result in results.values()],
        "(detect + crop) / (open + decode)": [
            (ms["detect"] + ms["crop"]) / (ms["open"] + ms["decode, to RGB"]) for ms in times
        ],
        "frames per second, alone: decode": [
            10_000 * result["decoded_per_used"] / result["ms"][PARTS[1]] for result in results.values()
        ],
        "usual / ours, up to the crops": [a / b for a, b in zip(usual, ours, strict=True)],
        "frame by frame / our model stage": [ms["usual: frame by frame"] / ms["model"] for ms in times],
        "usual / ours, all": [
            (a + ms["usual: frame by frame"]) / (b + ms["model"] + ms["Parquet"])
            for a, b, ms in zip(usual, ours, times, strict=True)
        ],
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--quick", action="store_true", help="two scenes, one repeat")
    options.add_argument("--repeats", type=int, default=5)
    options.add_argument("--backbone", default="resnet50")
    options.add_argument("--ours-only", action="store_true", help="do not measure the usual way")
    args = options.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    videos = originals(OUT / "corpus", num_scenes=2 if args.quick else 4)
    bench = Bench(load_checkpoint(checkpoint(args.backbone).read_bytes(), name=args.backbone))
    bench.ours(videos[23][0])  # warms up
    repeats = 1 if args.quick else args.repeats
    results = {
        str(crf): measure(bench, paths, repeats, ours_only=args.ours_only) for crf, paths in videos.items()
    }
    sizes = {str(crf): size for crf, size in sizes_mb(videos).items()}
    content = {"repeats": repeats, "results": results, "sizes_mb": sizes, "ratios": ratios_of(results)}
    show(table_of(content), repeats=f"medians of {repeats}")
    save(f"floor_{args.backbone}{'_ours' if args.ours_only else ''}", **content)


if __name__ == "__main__":
    main()
