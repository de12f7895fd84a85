import io
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from support.crops_rows import index_row, rejected_row

from dfdm_ray.engine.crops_run import show_crops
from dfdm_ray.engine.record import cost_line
from dfdm_ray.io.images import contact_sheet
from dfdm_ray.jobs.score.summary import confidence_histogram, show_scores
from dfdm_ray.schemas import CROPS_INDEX, PREDICTIONS

RECORD: dict[str, Any] = {
    "planned": 3,
    "scored": 2,
    "rejected": 1,
    "frames_decoded_per_used": 1.05,
    "runs": [{"num_videos": 3, "seconds": 2.0, "seconds_to_first_row": 0.5}],
}


def row(video_id: str, **values: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {"string": "", "int32": 0, "float": 0.0}
    blank = {
        field.name: None if field.nullable else [] if pa.types.is_list(field.type) else plain[str(field.type)]
        for field in PREDICTIONS
    }
    return {**blank, "video_id": video_id, "status": "scored", **values}


def predictions(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=PREDICTIONS)


def shown(table: pa.Table, record: dict[str, Any]) -> str:
    out = io.StringIO()
    show_scores(table, record, folder="out", console=Console(file=out, width=100))
    return out.getvalue()


def test_a_small_run_lists_every_video_and_why_one_was_rejected() -> None:
    text = shown(
        predictions(
            row("a[b]/1.mp4", generator="iae", probability=0.7, num_frames_scored=10, num_frames_decoded=11),
            row("b.mp4", generator="iae", probability=0.5),
            row("c.mp4", status="rejected", reject_code="no_face", reject_detail="none in 16 frames"),
        ),
        RECORD,
    )
    assert "a[b]/1.mp4" in text
    assert "10 of 11" in text
    assert "rejected: 1 no_face, such as c.mp4: none in 16 frames" in text
    assert "planned 3 = scored 2 + rejected 1" in text
    assert "iae" in text
    assert "100%" in text


def test_a_large_run_is_summed_up_and_not_listed() -> None:
    rows = [row(f"v{n:03d}.mp4", generator="dfaker" if n % 4 else "iae", probability=0.9) for n in range(100)]
    text = shown(predictions(*rows), {**RECORD, "planned": 100})
    assert "v000.mp4" not in text
    assert "75%" in text


def test_a_run_in_which_everything_was_rejected_has_a_summary_too() -> None:
    rejected = row("c.mp4", status="rejected", reject_code="empty_file", reject_detail="no bytes")
    assert "rejected: 1 empty_file" in shown(
        predictions(rejected), {**RECORD, "frames_decoded_per_used": None}
    )


def test_the_histogram_puts_each_probability_into_its_tenth() -> None:
    lines = confidence_histogram(np.array([0.05, 0.25, 0.29, 1.0], np.float32))[1:]
    assert [line.split()[-1] if "#" in line else "0" for line in lines] == list("1020000001")
    assert lines[2].count("#") == 2 * lines[0].count("#")


def test_the_cost_line_says_rate_start_and_decode_ratio() -> None:
    assert cost_line(RECORD) == (
        "3 videos in 2.0 s (1.50 videos/s); first row after 0.5 s; "
        "frames decoded / frames used = 1.05 over scored videos"
    )
    assert cost_line({**RECORD, "runs": [{}]}).startswith("nothing was left to do")


def test_a_contact_sheet_has_a_line_of_crops_or_a_reason_for_each_video() -> None:
    crops = np.full((3, 64, 64, 3), 200, np.uint8)
    sheet = contact_sheet([("a.mp4", crops), ("ü.mp4", "no_face: none")], cell_px=100)
    assert sheet.shape == (2 * 118, 640, 3)
    assert (sheet[18:118, :300] == 200).all()
    assert (sheet[18:118, 300:] == 255).all()
    assert (sheet[118 + 18 :] == 255).all()
    assert (sheet[118 : 118 + 18] < 128).any()


def test_a_crops_dataset_is_counted_by_quality_split_and_generator() -> None:
    rows = [index_row(f"i{n}", generator="iae", crf=10, split="train") for n in range(3)]
    rows += [index_row("f", generator="faceswap", crf=0, split="test"), index_row("n")]
    index = pa.Table.from_pylist(
        [*rows, rejected_row("x"), rejected_row("y", "too_short")], schema=CROPS_INDEX
    )
    record = {**RECORD, "planned": 7, "prepared": 5, "rejected": 2, "crops_bytes": 1_250_000}
    out = io.StringIO()
    show_crops(index, record, folder="out", console=Console(file=out, width=100))
    lines = [line.split() for line in out.getvalue().splitlines() if line.strip()]
    assert ["crf", "split", "faceswap", "iae", "unknown", "total"] in lines
    cells = [line for line in lines if line[0] in ("0", "10", "unknown")]
    assert cells == [
        ["0", "test", "1", "0", "0", "1"],
        ["10", "train", "0", "3", "0", "3"],
        ["unknown", "none", "0", "0", "1", "1"],
    ]
    assert "rejected: 1 too_short, such as y: none seen" in out.getvalue()
    assert "planned 7 = prepared 5 + rejected 2; 1.2 MB of crops in out/crops" in out.getvalue()
    assert "over prepared videos" in out.getvalue()
