"""Videos of every kind that PyAV writes; each frame shows its number, see :mod:`support.videos`."""

from pathlib import Path

from support.videos import VideoRecipe, remux, write_video, x264

PYRAMID = x264(bf="3", b_pyramid="normal", b_strategy="0")
OPEN_GOP = {**PYRAMID, "g": "23", "sc_threshold": "0", "x264-params": "open-gop=1"}
VARIABLE = [i * 40 + (i % 7) * 5 + (i // 30) * 900 for i in range(60)]
LATE = [5000 + 40 * i for i in range(60)]
X265 = {"x265-params": "keyint=25:log-level=none", "crf": "18"}
X265_CLOSED = {**X265, "x265-params": "keyint=25:log-level=none:open-gop=0"}
VP9 = {"crf": "20", "g": "25", "deadline": "realtime"}
HIDDEN = {"g": "25", "auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"}
AV1 = {"g": "25", "preset": "8", "crf": "8"}
MPEG = {"g": "25", "qscale": "3"}
MPEG_B = {"g": "15", "bf": "2", "qscale": "3"}

RECIPES = {
    "no_b_frames.mp4": VideoRecipe(options=x264(bf="0")),
    "pyramid.mp4": VideoRecipe(options=PYRAMID),
    "adaptive.mp4": VideoRecipe(options=x264(crf="23", preset="medium")),
    "open_gop.mp4": VideoRecipe(options=OPEN_GOP),
    "all_intra.mp4": VideoRecipe(options=x264(g="1")),
    "lossless.mp4": VideoRecipe(options=x264(crf="0")),
    "yuv444.mp4": VideoRecipe(pix_fmt="yuv444p"),
    "ten_bit.mp4": VideoRecipe(pix_fmt="yuv420p10le"),
    "grey.mp4": VideoRecipe(pix_fmt="gray"),
    "odd.mp4": VideoRecipe(pix_fmt="yuv444p", size=(161, 97)),
    "late.mp4": VideoRecipe(pts=LATE),
    "variable.mp4": VideoRecipe(pts=VARIABLE, options=PYRAMID),
    "hevc.mp4": VideoRecipe(codec="libx265", options=X265),  # its GOPs are open
    "hevc_ten_bit.mov": VideoRecipe(codec="libx265", pix_fmt="yuv420p10le", options=X265_CLOSED),
    "mpeg4.mp4": VideoRecipe(codec="mpeg4", options={**MPEG, "bf": "2"}),
    "quicktime.mov": VideoRecipe(codec="mjpeg", pix_fmt="yuvj420p", options={"qscale": "2"}),
    "with_sound.mp4": VideoRecipe(audio=True),
    "fragmented.mp4": VideoRecipe(options=x264(bf="2")),
    "matroska.mkv": VideoRecipe(options=PYRAMID),
    "open_gop.mkv": VideoRecipe(options=OPEN_GOP),
    "late.mkv": VideoRecipe(pts=LATE),
    "variable.mkv": VideoRecipe(pts=VARIABLE, options=PYRAMID),
    "hevc.mkv": VideoRecipe(codec="libx265", options=X265),
    "archive.mkv": VideoRecipe(codec="ffv1", options={"g": "25"}),
    "web.webm": VideoRecipe(codec="libvpx-vp9", options=VP9),
    "hidden_frames.webm": VideoRecipe(codec="libvpx-vp9", options={"crf": "20", **HIDDEN}),
    "vp8.webm": VideoRecipe(codec="libvpx", options={"crf": "10", "b": "1M", **HIDDEN}),
    "variable.webm": VideoRecipe(codec="libvpx-vp9", options=VP9, pts=VARIABLE),
    "transport.ts": VideoRecipe(options=x264(bf="2", b_strategy="0")),
    "open_gop.ts": VideoRecipe(options=OPEN_GOP),
    "late.ts": VideoRecipe(pts=LATE),
    "broadcast.ts": VideoRecipe(codec="mpeg2video", options=MPEG_B),
    "program.mpg": VideoRecipe(codec="mpeg2video", options=MPEG_B),  # many packets have no position
    "disc.mpg": VideoRecipe(codec="mpeg1video", options=MPEG_B),
    "flash.flv": VideoRecipe(options=PYRAMID),
    "windows.wmv": VideoRecipe(codec="wmv2", options=MPEG),  # many packets have the same position
    "old.avi": VideoRecipe(codec="mpeg4", options=MPEG),
    "x264.avi": VideoRecipe(options={**OPEN_GOP, "x264-params": "open-gop=0"}),  # has no times of B-frames
    "open_gop.avi": VideoRecipe(options=OPEN_GOP),
    "open_gop.h264": VideoRecipe(options=OPEN_GOP),
    "raw.h264": VideoRecipe(options=PYRAMID),  # has no times and cannot be sought in
    "open_gop.hevc": VideoRecipe(codec="libx265", options=X265),
    "raw.hevc": VideoRecipe(codec="libx265", options=X265_CLOSED),
    # orientation
    "turned.mp4": VideoRecipe(rotation=90),
    "upside_down.mov": VideoRecipe(rotation=180, options=PYRAMID),
    "turned.mkv": VideoRecipe(rotation=270),
    # pixels that are not square
    "wide_pixels.mp4": VideoRecipe(options=x264(**{"x264-params": "sar=2/1"})),
    "narrow_pixels.mkv": VideoRecipe(options=x264(**{"x264-params": "sar=8/9"})),
    "wide_pixels.ts": VideoRecipe(options=x264(**{"x264-params": "sar=16/11"})),
    # interlaced, upper or lower field first
    "upper_first.mp4": VideoRecipe(options=x264(**{"x264-params": "tff=1"})),
    "lower_first.mkv": VideoRecipe(options=x264(**{"x264-params": "bff=1"})),
    "upper_first.ts": VideoRecipe(codec="mpeg2video", options=MPEG_B | {"flags": "+ilme+ildct"}),
    "upper_first.mpg": VideoRecipe(codec="mpeg2video", options=MPEG | {"flags": "+ilme+ildct"}),
    # colour matrix and range
    "bt709.mp4": VideoRecipe(options=x264(**{"x264-params": "colormatrix=bt709"})),
    "full_range.mp4": VideoRecipe(pix_fmt="yuvj420p"),
    # other codecs
    "av1.mp4": VideoRecipe(codec="libsvtav1", options=AV1),
    "av1.mkv": VideoRecipe(codec="libsvtav1", options=AV1),
    "av1.webm": VideoRecipe(codec="libsvtav1", options=AV1, pts=VARIABLE),
    "prores.mov": VideoRecipe(codec="prores_ks", pix_fmt="yuv422p10le", options={}),
    "png.mov": VideoRecipe(codec="png", pix_fmt="rgb24", options={}),
    "jpeg2000.mov": VideoRecipe(codec="jpeg2000", pix_fmt="rgb24", options={}),
    "raw.mov": VideoRecipe(codec="rawvideo", pix_fmt="yuyv422", options={}),
    "raw.avi": VideoRecipe(codec="rawvideo", options={}),
    "huffyuv.avi": VideoRecipe(codec="huffyuv", pix_fmt="yuv422p", options={}),
    "magicyuv.avi": VideoRecipe(codec="magicyuv", options={}),
    "screen.avi": VideoRecipe(codec="zmbv", pix_fmt="bgr0", options={"g": "25"}),
    "cinepak.avi": VideoRecipe(codec="cinepak", pix_fmt="rgb24", options={"g": "25"}),
    "msmpeg4.avi": VideoRecipe(codec="msmpeg4", options=MPEG),
    "sorenson.flv": VideoRecipe(codec="flv", options=MPEG),
    "phone.3gp": VideoRecipe(codec="h263", size=(176, 144), options=MPEG),
    # other containers
    "windows.asf": VideoRecipe(codec="wmv1", options=MPEG),
    "camcorder.m2ts": VideoRecipe(options=x264(bf="2", b_strategy="0")),
    "hevc.ts": VideoRecipe(codec="libx265", options=X265),
    "itunes.m4v": VideoRecipe(options=PYRAMID),
    "jpeg.mkv": VideoRecipe(codec="mjpeg", pix_fmt="yuvj420p", options={"qscale": "2"}),
    "camera.dv": VideoRecipe(codec="dvvideo", size=(720, 576), num_frames=12, options={}),
    "tape.avi": VideoRecipe(codec="dvvideo", size=(720, 576), num_frames=12, options={}),
    "av1.obu": VideoRecipe(codec="libsvtav1", options=AV1),
    "nut.nut": VideoRecipe(options=PYRAMID),
    "vp8.ivf": VideoRecipe(codec="libvpx", options={"crf": "10", "b": "1M", **HIDDEN}),
    "studio.mxf": VideoRecipe(codec="mpeg2video", options=MPEG_B),
}
"""By file name: each container, codec, orientation, pixel ratio and field order that PyAV writes."""


def write(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.exists() and name.startswith("fragmented"):
        plain = write_video(folder / f"plain_{name}", RECIPES[name])
        return remux(plain, path, movflags="frag_keyframe+empty_moov")
    return path if path.exists() else write_video(path, RECIPES[name])
