"""High dynamic range and wide gamut as a standard display shows them: RGB of BT.709.

White is 203 cd/m2 (ITU-R BT.2408), so that a face is as bright as in an ordinary video.
"""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorPrimaries, ColorTrc

_HDR: dict[int, str] = {ColorTrc.SMPTE2084: "pq", ColorTrc.ARIB_STD_B67: "hlg"}
_WIDE: dict[int, str] = {ColorPrimaries.BT2020: "bt2020", ColorPrimaries.SMPTE432: "p3"}

_WHITE_NITS = 203
_PEAK_NITS = 1000
"""Nominal peak of HLG (ITU-R BT.2100) and usual peak of mastering displays; brighter light is clipped."""
_KNEE = 0.5
"""Light up to this share of white is unchanged: three quarters of the signal, where faces are."""
_STRIP_PX = 2**16
"""Pixels that are converted at a time; they take about 64 bytes each meanwhile."""

_MATRICES: dict[int, npt.NDArray[np.float32]] = {
    ColorPrimaries.BT709: np.eye(3, dtype=np.float32),
    ColorPrimaries.BT2020: np.array(
        [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32
    ),
    ColorPrimaries.SMPTE432: np.array(
        [[1.2249, -0.2249, 0], [-0.0421, 1.0421, 0], [-0.0196, -0.0786, 1.0983]], np.float32
    ),
}
"""Linear RGB to that of BT.709, from the chromaticities in BT.709, BT.2020 and SMPTE EG 432-1 (P3)."""
_LUMINANCE = np.array([[0.2627, 0.6780, 0.0593]], np.float32)  # BT.2020, table 4


def colour_name(transfer: int, primaries: int) -> str | None:
    """Return the name of colours that :func:`to_bt709` must convert, ``None`` for ordinary ones."""
    return _HDR.get(transfer) or _WIDE.get(primaries)


def to_bt709(rgb: npt.NDArray[np.uint16], *, transfer: int, primaries: int) -> npt.NDArray[np.uint8]:
    """Return RGB ``(H, W, 3)``, 0..65535, as RGB of BT.709, 0..255.

    Unknown primaries are those of BT.2020, because BT.2100 has no others.
    """
    matrix = _MATRICES.get(primaries, _MATRICES[ColorPrimaries.BT2020])
    shown = np.empty(rgb.shape, np.uint8)
    step = max(1, _STRIP_PX // rgb.shape[1])
    for row in range(0, len(rgb), step):
        light = cv2.transform(_light(rgb[row : row + step], transfer), matrix)
        if transfer in _HDR:
            light = light * _gain(light.max(axis=2, keepdims=True))
        shown[row : row + step] = _signal()[(light.clip(0, 1) * 65535).astype(np.uint16)]
    return shown


def _light(rgb: npt.NDArray[np.uint16], transfer: int) -> npt.NDArray[np.float32]:
    """Return the light that a display emits, linear, 1 for white."""
    light = _light_table(transfer)[rgb]
    if transfer == ColorTrc.ARIB_STD_B67:  # the system gamma of 1.2 (BT.2100, table 5, OOTF)
        light *= cv2.pow(cv2.transform(light, _LUMINANCE), 0.2)[..., None] * (_PEAK_NITS / _WHITE_NITS)
    return light


@cache
def _light_table(transfer: int) -> npt.NDArray[np.float32]:
    """Return the light of each value 0..65535: of a display, or of the scene for HLG."""
    signal = np.arange(65536) / 65535
    if transfer == ColorTrc.SMPTE2084:  # BT.2100, table 4, EOTF
        root = signal ** (32 / 2523)
        light = (np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (8192 / 1305)
        light *= 10_000 / _WHITE_NITS
    elif transfer == ColorTrc.ARIB_STD_B67:  # BT.2100, table 5, inverse OETF
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    else:  # BT.1886
        light = signal**2.4
    return light.astype(np.float32)


@cache
def _signal() -> npt.NDArray[np.uint8]:
    """Return the value 0..255 of light 0..65535 (BT.1886)."""
    signal: npt.NDArray[np.uint8] = ((np.arange(65536) / 65535) ** (1 / 2.4) * 255).round().astype(np.uint8)
    return signal


def _gain(light: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the factors that map the strongest colour of pixels, up to the peak, to at most 1.

    The curve is "mobius" of FFmpeg's filter ``tonemap``: straight up to the knee, and smooth above.
    """
    knee, peak = _KNEE, _PEAK_NITS / _WHITE_NITS
    a = -(knee**2) * (peak - 1) / (knee**2 - 2 * knee + peak)
    b = (knee**2 - 2 * knee * peak + peak) / (peak - 1)
    light = np.clip(light, knee, None)
    return (b + knee) ** 2 / (b - a) * (light + a) / ((light + b) * light)
