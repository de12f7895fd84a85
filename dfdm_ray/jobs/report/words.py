"""Plain sentences for verdicts, their strength, rejections and limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from dfdm_ray.errors import RejectCode
from dfdm_ray.labels import REAL
from dfdm_ray.models.reference import ReferenceSet, remarks_on

SCALE: tuple[tuple[float, str], ...] = (
    (1, "weak"),
    (2, "moderate"),
    (3, "moderately strong"),
    (4, "strong"),
    (6, "very strong"),
    (float("inf"), "extremely strong"),
)
"""log10 of the likelihood ratio below which a word applies: the scale of the ENFSI guideline for evaluative
reporting in forensic science (2015)."""

REASONS: Mapping[str, str] = {
    RejectCode.UNREADABLE: "The file cannot be opened or read.",
    RejectCode.EMPTY_FILE: "The file is empty.",
    RejectCode.NOT_A_VIDEO: "The file is not a video that can be read.",
    RejectCode.STORAGE_ERROR: "The storage did not deliver the file.",
    RejectCode.NO_VIDEO_STREAM: "The file contains no moving picture.",
    RejectCode.UNSUPPORTED_CODEC: "There is no decoder for this kind of video.",
    RejectCode.ENCRYPTED: "The video is encrypted.",
    RejectCode.DECODE_ERROR: "The video is damaged; too few frames are whole.",
    RejectCode.TOO_LARGE: "The frames have more pixels than the run allowed.",
    RejectCode.CRASHED: "The decoder crashed on this file.",
    RejectCode.TIMED_OUT: "The video took longer than the run allowed.",
    RejectCode.OUT_OF_MEMORY: "The video needs more memory than the run allowed.",
    RejectCode.INTERNAL_ERROR: "This file triggers a bug in dfdm-ray.",
    RejectCode.TOO_SHORT: "The video has too few frames.",
    RejectCode.NO_FACE: "No face was found in the frames that were searched.",
    RejectCode.FACE_TOO_SMALL: "The face is too small.",
    RejectCode.FACE_TOO_BRIEF: "A face is visible in too few frames.",
    RejectCode.SEVERAL_FACES: "The video shows several people where one is wanted.",
    RejectCode.UNFIT_FRAMES: "The pictures of this video are missing or do not fit each other.",
    RejectCode.UNKNOWN_CLASS: "The folder of the video names no known generator.",
}
"""One sentence for each reject code."""

_NOT_SAID: Mapping[str, tuple[str, ...]] = {
    "attributed": (
        "It does not prove that this generator made the video: a method that the model was never shown may "
        "look like it.",
        "It does not say who made the video, when, or why.",
    ),
    "one_of": (
        "It does not say which of these generators made the video, and a method that the model was never "
        "shown may look like them.",
        "It does not say who made the video, when, or why.",
    ),
    REAL: (
        "It does not say that the video is authentic: swaps by other methods, cuts, sound and everything "
        "outside the face are not examined.",
    ),
    "unknown": (
        "It does not say that the video is fake, and not that it is real: another camera, codec or kind of "
        "face gives the same verdict.",
    ),
    "inconclusive": ("It says nothing in either direction.",),
    "rejected": ("It says nothing about whether the video is real or swapped.",),
}


def listed(names: Sequence[str]) -> str:
    """Return ``a``, ``a or b``, ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def headline(verdict: str, face: Mapping[str, Any]) -> str:
    """Return the verdict on a face in a few words."""
    found = face.get("prediction_set") or ()
    return {
        "attributed": f"Attributed to {listed(found)}",
        "one_of": f"Swapped by one of: {listed(found)}",
        REAL: "Like a real video",
        "unknown": "Unknown: like nothing in the reference set",
        "inconclusive": "Inconclusive",
        "rejected": "No answer",
    }[verdict]


def meaning(verdict: str, face: Mapping[str, Any], classes: Sequence[str]) -> str:
    """Return what a verdict means, in one sentence."""
    found, known = face.get("prediction_set") or (), len(classes)
    if verdict == "rejected":
        return REASONS.get(str(face["reject_code"]), "The video has no answer.")
    if verdict == "inconclusive" and not face.get("reference_set"):
        return "The model has no reference set, so nothing is known about how often its answers are right."
    return {
        "attributed": f"Of the {known} classes that the model knows, only {listed(found)} fits this face.",
        "one_of": f"Several generators fit this face: {listed(found)}. Real videos do not.",
        REAL: f"Of the {known} classes that the model knows, only real videos fit this face.",
        "unknown": (
            "The face is unlike all reference videos."
            if _is_strange(face)
            else "None of the classes that the model knows fits this face."
        ),
        "inconclusive": f"Too much fits this face: {listed(found)}."
        if found
        else "The numbers decide nothing.",
    }[verdict]


def _is_strange(face: Mapping[str, Any]) -> bool:
    score, threshold = face.get("unknown_score"), face.get("unknown_threshold")
    return score is not None and threshold is not None and score > threshold


def strength_of(
    verdict: str, face: Mapping[str, Any], reference: ReferenceSet | None
) -> dict[str, Any] | None:
    """Return the likelihood ratio with its bound and its word, ``None`` where it has no meaning.

    The ratio compares known classes only, so it says nothing about a face that is like none of them.
    """
    ratio = face.get("log10_lr")
    if ratio is None or reference is None or verdict in ("unknown", "rejected"):
        return None
    bound = reference.log10_lr_bound(reference.classes.index(face["generator"]))
    word = next(word for limit, word in SCALE if abs(ratio) < limit)
    at_bound = abs(ratio) >= bound - 1e-6
    times, name = f"{10 ** abs(ratio):,.3g}", face["generator"]
    than = f"if the class is {name} than if it is another of the known classes"
    if ratio < 0:
        than = f"if the class is another of the known ones than if it is {name}"
    limit = (
        f" This is the most that {10**bound:,.0f} reference videos can show; it may be more."
        if at_bound
        else ""
    )
    return {
        "class": name,
        "log10_lr": ratio,
        "bound": bound,
        "is_at_bound": at_bound,
        "word": word,
        "sentence": f"These findings are about {times} times as likely {than}: {word} evidence.{limit}",
    }


def not_said(verdict: str) -> list[str]:
    """Return what a verdict does not say, a sentence each."""
    every = () if verdict == "rejected" else ("It holds only for videos like those of the reference set.",)
    return [*_NOT_SAID[verdict], *every]


def error_rates(verdict: str, reference: ReferenceSet | None) -> dict[str, Any] | None:
    """Return how often verdicts on the reference set were wrong, ``None`` if that was not measured."""
    rates = (reference.facts.get("error_rates") if reference else None) or {}
    counts: Mapping[str, int] = rates.get("verdicts") or {}
    if not counts:
        return None
    rows: list[dict[str, Any]] = []
    for name, number in counts.items():
        truth, _, rest = name.partition(": ")
        given, _, wrong = rest.partition(", ")
        rows.append({"truth": truth, "verdict": given, "is_wrong": bool(wrong), "videos": number})
    return {"accuracy": rates.get("accuracy"), "rows": rows, "sentences": _rates_in_words(verdict, rows)}


def _rates_in_words(verdict: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    same = [row for row in rows if row["verdict"] == verdict]
    if verdict in ("unknown", "inconclusive"):
        what = "reference videos, all of known classes"
        return [_share(_sum(same), _sum(rows), what, f"given the verdict {verdict}")]
    wrong = [row for row in same if row["is_wrong"]]
    real = [row for row in rows if row["truth"] == REAL]
    swapped = [row for row in rows if row["truth"] != REAL]
    accused = [row for row in real if row["verdict"] in ("attributed", "one_of")]
    missed = [row for row in swapped if row["verdict"] == REAL]
    of_all = (
        _share(_sum(missed), _sum(swapped), "swapped reference videos", "taken for real ones")
        if verdict == REAL
        else _share(_sum(accused), _sum(real), "real reference videos", "taken for swapped ones")
    )
    return [_share(_sum(wrong), _sum(same), f"reference videos with the verdict {verdict}", "wrong"), of_all]


def _sum(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(row["videos"]) for row in rows)


def _share(part: int, whole: int, what: str, how: str) -> str:
    if not whole:
        return f"There are no {what}, so no error rate is known."
    return f"Of {whole} {what}, {part} {'was' if part == 1 else 'were'} {how} ({part / whole:.0%})."


def limitations(
    row: Mapping[str, Any], reference: ReferenceSet | None, *, classes: Sequence[str], num_scored_faces: int
) -> list[str]:
    """Return the limits of an answer, a sentence each."""
    found = [
        f"{row['num_frames_scored']} of {row['num_frames_in_video']} frames were used. What happens in the "
        "others was not seen."
    ]
    if row["num_faces"] > num_scored_faces:
        found.append(f"{row['num_faces']} faces were found, and {num_scored_faces} examined.")
    if row["corrections"]:
        found.append(f"Frames were changed before they were examined: {', '.join(row['corrections'])}.")
    found.append(f"The model knows {len(classes)} classes: {', '.join(classes)}. It cannot name others.")
    if reference is None:
        return [
            *found,
            "There is no reference set: probabilities are not calibrated, error rates are unknown.",
        ]
    facts = reference.facts
    remarks = remarks_on(classes, facts.get("num_videos", {}), str(facts.get("shared_with_training")))
    return [*found, *(f"{remark[0].upper()}{remark[1:]}." for remark in remarks)]
