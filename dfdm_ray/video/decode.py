"""Exact decoding with PyAV: the frames of each run of a plan, in one forward pass."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from fractions import Fraction
from itertools import chain, takewhile

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfdm_ray.config import LimitsConfig
from dfdm_ray.errors import VideoRejectedError
from dfdm_ray.io.lending import OpenedFile
from dfdm_ray.video.damage import RunDamagedError, RunEncryptedError, refuse_encrypted, rejection_of
from dfdm_ray.video.display import Display
from dfdm_ray.video.frames import FrameBatch, Pictures
from dfdm_ray.video.index import PacketIndex
from dfdm_ray.video.keys import decoded_keys
from dfdm_ray.video.plan import LENGTH_SLACK, Run, cheapest_lengths, presentation_costs
from dfdm_ray.video.source import VideoPacket, VideoSource

_MAX_REORDER = 32
"""Packets read after the end of a run for the order of its B-frames; H.264 and HEVC allow 16."""


class VideoReader(AbstractContextManager["VideoReader"]):
    """An open video, by its URI or open, with its index and the exact frames of runs.

    Frames of more than ``max_pixels`` are not decoded. On pictures see :mod:`dfdm_ray.video.display`.

    Raises:
        VideoRejectedError: From the constructor, if the file is no readable video; from any method, if
            it can no longer be read.
    """

    def __init__(self, video: str | OpenedFile, *, max_pixels: int = LimitsConfig.max_pixels) -> None:
        self.num_frames_decoded = 0
        """Number of packets given to the decoder, one for each frame."""
        self._source = VideoSource(video, max_pixels=max_pixels)
        self._start = self._source.stream.start_time or 0
        self._display = Display(self._source.stream, max_pixels=max_pixels)
        self._checks_keys = True
        self._doubts_keys = len(self.index) > 0 and not self.index.is_key.any()
        self._held: dict[int, tuple[VideoStream, list[VideoPacket], bool]] = {}  # of a stream, by key frame
        self.failure: VideoRejectedError | None = None
        """Rejection for the reason of the first run that failed."""
        try:
            self.corrects_keys()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def index(self) -> PacketIndex:
        """Positions and times of the packets."""
        return self._source.index

    @property
    def fingerprint(self) -> str:
        """Identity of the file, see :func:`dfdm_ray.io.identity.fingerprint`."""
        return self._source.fingerprint

    @property
    def time_base(self) -> Fraction:
        """Unit of times in the stream, seconds."""
        return self._source.stream.time_base or Fraction(1, 90_000)

    @property
    def rate(self) -> Fraction:
        """Average number of frames per second."""
        return self._source.stream.average_rate or Fraction(30)

    @property
    def corrections(self) -> list[str]:
        """Changes that the decoded frames needed, see ``corrections`` in :data:`dfdm_ray.schemas.CLIPS`."""
        return sorted(self._display.corrections)

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def read_planned(self, runs: tuple[Run, ...], *, flexible: bool) -> Iterator[FrameBatch]:
        """Decode ``runs``, planned from :attr:`index`, in order; damaged runs are left out.

        If ``flexible``, the lengths of runs may change, but not their sum, to save decoding unused B-frames.
        """
        if flexible and len(runs) > 1 and self.index.frame_times is None:
            runs = self._balanced(runs)
        for run in runs:
            batch = self.read_run(run)
            if batch is not None:
                yield batch

    def read_run(self, run: Run) -> FrameBatch | None:
        """Return the frames of ``run``, or ``None`` if they are damaged."""
        self._key_is_shown = False
        try:
            return self._decode(run) if self.index.frame_times is None else self._decode_in_order(run)
        except (RunDamagedError, av.error.FFmpegError) as error:
            if not isinstance(error, RunEncryptedError):
                self._doubts_keys |= self._checks_keys and not self._key_is_shown
            self.failure = self.failure or rejection_of(error)
            return None

    def corrects_keys(self) -> bool:
        """Find the key frames anew if a run failed at its first frame; return whether to plan anew.

        Without a table of key frames (``stss``), mp4 claims that every frame is one; other files claim wrong
        ones or none. The decoder decides.
        """
        if not self._doubts_keys:
            return False
        self._doubts_keys = False
        claimed: list[int] = self.index.keys.tolist()
        keys = decoded_keys(self._source)
        self._checks_keys = keys is not None
        if keys is not None:
            self.num_frames_decoded += len(keys)
            is_key = np.isin(np.arange(len(self.index)), keys)
            self._source.index = replace(self.index, is_key=is_key)
        self.failure = self.failure if keys == claimed else None
        return keys != claimed

    def read_onwards(self, key: int | None = None) -> Iterator[FrameBatch]:
        """Decode from a key frame on, by default the first, one frame at a time.

        After damage, frames up to the next key frame are left out, because they may refer to damaged ones.
        """
        if not len(self.index.keys):
            return
        number, damaged = int(self.index.keys[0]) if key is None else key, False
        for frames in self._decoded_onwards(number):
            if frames is None:
                damaged = True
                number += 1
                continue
            for frame in frames:
                damaged = frame.is_corrupt or (damaged and not frame.key_frame)
                if not damaged:
                    yield self._batch([frame], [number])
                number += 1

    def _decoded_onwards(self, key: int) -> Iterator[list[VideoFrame] | None]:
        """Yield the frames that each packet from ``key`` on completes, ``None`` for a damaged packet."""
        packets = self._source.packets_from(key)
        context = self._source.stream.codec_context
        context.flush_buffers()
        for packet in chain(packets, [None]):
            self.num_frames_decoded += packet is not None
            try:
                refuse_encrypted(packet)
                frames = context.decode(packet)
            except (RunDamagedError, av.error.FFmpegError):
                yield None
            else:
                yield frames

    def _balanced(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        try:
            costs = [self._costs_of(run) for run in runs]
        except RunDamagedError:
            return runs
        lengths = cheapest_lengths(costs, total=sum(len(run.offsets) for run in runs))
        return tuple(replace(run, offsets=tuple(range(n))) for run, n in zip(runs, lengths, strict=True))

    def _costs_of(self, run: Run) -> list[int]:
        """Return the costs of the lengths that ``run`` may have, none of them past the next key frame."""
        even = len(run.offsets)
        later = self.index.keys[self.index.keys > run.key]
        gap = int(later[0]) - run.key if len(later) else even + LENGTH_SLACK
        longest = max(even, min(even + LENGTH_SLACK, gap))
        packets, ended = self._packets(run.key, longest)
        self._held[run.key] = self._source.stream, packets, ended
        return self._costs(packets, ended=ended)[:longest]

    def _decode(self, run: Run) -> FrameBatch:
        packets, ended = self._packets(run.key, run.offsets[-1] + 1)
        costs = self._costs(packets, ended=ended)
        offsets = _there(run, len(costs), ended=ended)
        times = sorted(_pts(packet) for packet in packets if not packet.is_discard)
        instants = [times[offset] for offset in offsets]
        wanted = set(instants)
        if len(set(times)) < len(times):
            raise RunDamagedError(f"packets after key frame {run.key} share a time")
        shown: dict[int | None, VideoFrame] = {}
        for frame in self._decoded(packets[: costs[offsets[-1]]]):
            self._check_key(frame, packets[0])
            if frame.is_corrupt:
                raise RunDamagedError(f"a frame after key frame {run.key} is damaged")
            if frame.pts in wanted:
                shown[frame.pts] = frame
        if len(shown) < len(wanted):
            raise RunDamagedError(f"frames after key frame {run.key} are missing")
        return self._batch([shown[instant] for instant in instants], [run.key + offset for offset in offsets])

    def _check_key(self, frame: VideoFrame, key: VideoPacket) -> None:
        """Check that the first frame of a run is a key frame: some decoders make frames from any packet."""
        if frame.pts == key.pts:
            self._key_is_shown = frame.key_frame or not self._checks_keys
            if not self._key_is_shown:
                raise RunDamagedError("a frame that the container calls a key frame is none")

    def _decode_in_order(self, run: Run) -> FrameBatch:
        """Decode a run of a stream whose packets have no times, in the order of the decoder's output.

        The leading pictures of an open GOP follow the key frame in the file, are shown before it and refer
        to frames before it. They are decoded wrongly or left out, but they count for the time.
        """
        shown: dict[int, VideoFrame] = {}
        before, offset, num_shown = self.num_frames_decoded, 0, run.offsets[-1] + 1
        packets = takewhile(lambda _: offset < num_shown, self._source.packets_from(run.key))
        for frame in self._decoded(packets):
            if offset == 0 and not frame.key_frame:
                continue
            if frame.is_corrupt and offset < num_shown:
                raise RunDamagedError(f"a frame after key frame {run.key} is damaged")
            if offset in run.offsets:
                shown[offset] = frame
            offset += 1
        num_packets = self.num_frames_decoded - before
        _there(run, offset, ended=num_packets == len(self.index) - run.key)
        key = run.key + max(0, num_packets - offset)  # a packet may contain two frames, and the next none
        return self._batch(list(shown.values()), [key + offset for offset in shown])

    def _decoded(self, packets: Iterable[VideoPacket]) -> Iterator[VideoFrame]:
        context = self._source.stream.codec_context
        context.flush_buffers()
        for packet in packets:
            self.num_frames_decoded += 1
            if packet.is_corrupt:
                raise RunDamagedError("a packet is damaged")
            refuse_encrypted(packet)
            yield from context.decode(packet)
        yield from context.decode(None)

    def _packets(self, key: int, num_shown: int) -> tuple[list[VideoPacket], bool]:
        """Return packets from ``key`` on for ``num_shown`` frames, and whether the stream ended."""
        packets: list[VideoPacket] = []
        stream, held, ended = self._held.pop(key, (None, packets, True))
        for packet in held if stream is self._source.stream else self._source.packets_from(key):
            if packets and self._restarts(packets[-1], packet):
                break
            if packets and _pts(packet) < _pts(packets[0]):
                continue  # leading pictures of an open GOP refer to frames before the key frame
            packets.append(packet)
            if len(packets) >= num_shown + _MAX_REORDER:
                return packets, False
            if len(packets) >= num_shown and len(self._costs(packets, ended=False)) >= num_shown:
                return packets, False
        return packets, ended or stream is not self._source.stream

    def _restarts(self, before: VideoPacket, packet: VideoPacket) -> bool:
        """Whether another recording with its own times begins, as in concatenated transport streams."""
        if before.dts is None or packet.dts is None:
            return False
        return (before.dts - packet.dts) * self.time_base > 1

    def _costs(self, packets: Sequence[VideoPacket], *, ended: bool) -> list[int]:
        complete = ended and not self.index.num_missing
        return presentation_costs(
            [_pts(packet) for packet in packets],
            [packet.is_discard for packet in packets],
            last_dts=None if complete or not packets else packets[-1].dts,
        )

    def _batch(self, frames: Sequence[VideoFrame], numbers: Sequence[int]) -> FrameBatch:
        """Return ``frames``; their times, else their ``numbers`` in order of presentation, give ``pts_s``."""
        ratio = self._source.stream.codec_context.sample_aspect_ratio
        rgb = [self._display.rgb(frame, ratio) for frame in frames]
        if any(frame.shape != rgb[0].shape for frame in rgb):
            raise RunDamagedError("the frame size changes within a run")
        if self.index.frame_times is None:
            ticks = [frame.pts - self._start if frame.pts is not None else np.nan for frame in frames]
        else:
            ticks = self.index.frame_times[np.minimum(numbers, len(self.index) - 1)].tolist()
        pts_s = np.array([float(tick * self.time_base) for tick in ticks])
        return FrameBatch(rgb=Pictures(rgb) if len(rgb) > 1 else np.stack(rgb), pts_s=pts_s)


def _there(run: Run, num_shown: int, *, ended: bool) -> list[int]:
    """Return the offsets of ``run`` below ``num_shown``, fewer than planned only if the stream ``ended``.

    An open GOP near the end may contain a few frames less than its packets promise.
    """
    offsets = [offset for offset in run.offsets if offset < num_shown]
    if not offsets or (len(offsets) < len(run.offsets) and not ended):
        raise RunDamagedError(f"{num_shown} of {run.offsets[-1] + 1} frames after key frame {run.key}")
    return offsets


def _pts(packet: VideoPacket) -> int:
    if packet.pts is None:
        raise RunDamagedError("a packet has no time")
    return packet.pts
