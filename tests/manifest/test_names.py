"""What paths tell about DFDM videos."""

import pytest

from dfdm_ray.manifest.names import find_copies, parse_path

NO_CRF = "no quality folder such as DFDM_crf23 above it"
KNOWN_TAGS = "known are 1original, 2lightweight, 3iae, 4dfaker, 5dfl-h128"
MISMATCH = "name does not match id0_id1_0000_1original"

GOOD = [
    # the release: each tag
    ("DFDM_crf0/FaceSwap/id0_id1_0000_1original.mp4", ("faceswap", 0, "id0", "id1", "0000")),
    ("DFDM_crf10/LightWeight/id2_id3_0001_2lightweight.mp4", ("lightweight", 10, "id2", "id3", "0001")),
    ("DFDM_crf23/IAE/id4_id5_0002_3iae.mp4", ("iae", 23, "id4", "id5", "0002")),
    ("DFDM_crf23/DFaker/id28_id20_0008_4dfaker.mp4", ("dfaker", 23, "id28", "id20", "0008")),
    ("DFDM_crf23/DFL-H128/id59_id0_0009_5dfl-h128.mp4", ("dfl-h128", 23, "id59", "id0", "0009")),
    # no folder for the generator
    ("DFDM_crf0/id0_id1_0000_1original.mp4", ("faceswap", 0, "id0", "id1", "0000")),
    # folders between and above
    ("a/DFDM_crf10/b/IAE/c/id0_id1_0000_3iae.mp4", ("iae", 10, "id0", "id1", "0000")),
    # other spellings of the quality folder
    ("crf23/id0_id1_0000_3iae.mp4", ("iae", 23, "id0", "id1", "0000")),
    ("CRF_10/id0_id1_0000_3iae.mp4", ("iae", 10, "id0", "id1", "0000")),
    ("dfdm_CRF0/id0_id1_0000_3iae.mp4", ("iae", 0, "id0", "id1", "0000")),
    # the nearest quality wins
    ("DFDM_crf0/crf23/id0_id1_0000_3iae.mp4", ("iae", 23, "id0", "id1", "0000")),
    # plain names, other case, other extension
    ("crf0/id0_id1_0000_faceswap.MKV", ("faceswap", 0, "id0", "id1", "0000")),
    ("crf0/ID0_Id1_0000_DFL_H128.mp4", ("dfl-h128", 0, "id0", "id1", "0000")),
    ("crf0/id0_id1_0000_Original.mp4", ("faceswap", 0, "id0", "id1", "0000")),
    # no tag: the folder tells, also one above the quality
    ("DFDM_crf0/DFaker/id0_id1_0000.mp4", ("dfaker", 0, "id0", "id1", "0000")),
    ("LightWeight/DFDM_crf0/id0_id1_0000.mp4", ("lightweight", 0, "id0", "id1", "0000")),
]

ODD = [
    # a name of another kind: nothing but the quality folder's and the generator folder's facts
    ("DFDM_crf0/IAE/holiday.mp4", ("iae", 0, None, None, None), MISMATCH),
    # FaceForensics++ has a FaceSwap too, which is no DFDM generator
    ("manipulated/FaceSwap/c23/000_003.mp4", (None, None, None, None, None), MISMATCH),
    # an unknown tag is not replaced by the folder's word
    (
        "DFDM_crf0/IAE/id0_id1_0000_6foo.mp4",
        (None, 0, "id0", "id1", "0000"),
        f'unknown generator tag "6foo"; {KNOWN_TAGS}',
    ),
    # a copy made by a file manager
    (
        "crf0/id0_id1_0000_3iae (1).mp4",
        (None, 0, "id0", "id1", "0000"),
        f'unknown generator tag "3iae (1)"; {KNOWN_TAGS}',
    ),
    # an empty tag
    ("crf0/id0_id1_0000_.mp4", (None, 0, "id0", "id1", "0000"), f'unknown generator tag ""; {KNOWN_TAGS}'),
    # neither tag nor folder; "original" as a folder means real videos
    (
        "crf0/original/id0_id1_0000.mp4",
        (None, 0, "id0", "id1", "0000"),
        "name has no generator tag and no folder above it names a generator",
    ),
    # a quality DFDM does not have; a better one further up does not count
    (
        "DFDM_crf0/DFDM_crf17/id0_id1_0000_3iae.mp4",
        ("iae", None, "id0", "id1", "0000"),
        "unknown quality folder DFDM_crf17; known are 0, 10, 23",
    ),
    # no quality at all
    ("id0_id1_0000_3iae.mp4", ("iae", None, "id0", "id1", "0000"), NO_CRF),
    # a folder that only begins like a quality
    ("DFDM_crf23_old/id0_id1_0000_3iae.mp4", ("iae", None, "id0", "id1", "0000"), NO_CRF),
    # tag against folder
    (
        "crf0/IAE/id0_id1_0000_4dfaker.mp4",
        ("dfaker", 0, "id0", "id1", "0000"),
        "the name says dfaker, but the folder is IAE; the name is used",
    ),
    # digits of other scripts are no DFDM ids
    ("crf0/id٣_id1_0000_3iae.mp4", (None, 0, None, None, None), MISMATCH),
    # no extension, no name
    ("crf0/", (None, 0, None, None, None), MISMATCH),
]


def facts(path: str, root: str = "") -> tuple[object, ...]:
    found = parse_path(path, root=root)
    return found.generator, found.crf, found.target_identity, found.source_identity, found.scene


@pytest.mark.parametrize(("path", "expected"), GOOD)
def test_a_dfdm_path_tells_everything(path: str, expected: tuple[object, ...]) -> None:
    assert facts(path) == expected
    assert parse_path(path).reasons == ()
    assert parse_path(path).looks_like_dfdm


@pytest.mark.parametrize(("path", "expected", "reason"), ODD)
def test_an_odd_path_tells_what_it_can_and_why_not_more(
    path: str, expected: tuple[object, ...], reason: str
) -> None:
    assert facts(path) == expected
    assert parse_path(path).reasons == (reason,)


ORIGINALS = [
    # name, whether its tag is 1original
    ("DFDM_crf0/FaceSwap/id0_id1_0000_1original.mp4", True),
    ("DFDM_crf0/id0_id1_0000_1_Original.mp4", True),
    ("DFDM_crf0/original/id0_id1_0000_original.mp4", True),
    ("DFDM_crf0/FaceSwap/id0_id1_0000_faceswap.mp4", False),
    ("DFDM_crf0/FaceSwap/id0_id1_0000.mp4", False),
    ("DFDM_crf0/id0_id1_0000_1originals.mp4", False),
]


@pytest.mark.parametrize(("path", "is_original"), ORIGINALS)
def test_the_tag_1original_is_faceswap_or_real_as_wanted(path: str, is_original: bool) -> None:
    swapped, real = parse_path(path), parse_path(path, original="real")
    assert (swapped.is_original, real.is_original) == (is_original, is_original)
    if is_original:
        assert (swapped.generator, swapped.source_identity) == ("faceswap", "id1")
        assert (real.generator, real.crf, real.reasons) == ("real", 0, ())
        assert (real.target_identity, real.source_identity, real.scene) == ("id0", None, "0000")
    else:
        assert real == swapped


def test_two_things_wrong_give_two_reasons() -> None:
    assert parse_path("crf17/a.mp4").reasons == (
        MISMATCH,
        "unknown quality folder crf17; known are 0, 10, 23",
    )


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        # the root is the quality folder
        ("/data/DFDM_crf10", ("iae", 10, "id0", "id1", "0000")),
        # the root is the generator's folder
        ("/data/DFDM_crf10/IAE/", ("iae", 10, "id0", "id1", "0000")),
        # too far up to mean this data set
        ("/data/crf10/a/b/c", ("iae", None, "id0", "id1", "0000")),
    ],
)
def test_the_last_folders_of_the_root_count(root: str, expected: tuple[object, ...]) -> None:
    assert facts("id0_id1_0000_3iae.mp4", root) == expected


def test_the_path_goes_before_the_root_and_an_absolute_path_has_no_root() -> None:
    assert facts("crf23/id0_id1_0000_3iae.mp4", "/data/crf0")[1] == 23
    assert facts("/data/id0_id1_0000_3iae.mp4", "/lists/crf0")[1] is None


@pytest.mark.parametrize(
    "path",
    [
        # any video
        "holiday/beach.mp4",
        # FaceForensics++
        "FaceSwap/c23/videos/000_003.mp4",
        # Celeb-DF: ids and scene, but no tag
        "Celeb-synthesis/id0_id1_0000.mp4",
    ],
)
def test_other_data_sets_do_not_look_like_dfdm(path: str) -> None:
    assert not parse_path(path).looks_like_dfdm
    assert parse_path(path).generator is None


def test_a_scene_of_one_person_is_real_as_in_celeb_df() -> None:
    facts = parse_path("Celeb-real/id28_0008.mp4")
    assert (facts.generator, facts.target_identity, facts.scene) == ("real", "id28", "0008")
    assert (facts.source_identity, facts.reasons, facts.looks_like_dfdm) == (None, (), False)


@pytest.mark.parametrize(
    ("path", "original"),
    [
        ("a/x (1).mp4", "a/x.mp4"),
        ("a/x(2).mp4", "a/x.mp4"),
        ("a/x copy.mp4", "a/x.mp4"),
        ("a/x copy 3.mp4", "a/x.mp4"),
        ("a/x - Copy (2).mp4", "a/x.mp4"),
        ("a/x - Kopie.mp4", "a/x.mp4"),
        ("a/x \u2013 Kopie.mp4", "a/x.mp4"),
        ("a/Copy of x.mp4", "a/x.mp4"),
        ("a/Kopie von x.mp4", "a/x.mp4"),
        ("a/x 2.mp4", "a/x.mp4"),
        ("a 2/x.mp4", "a/x.mp4"),
        ("a 2/x (1).mp4", "a/x.mp4"),
        # other names, and a mark that is the whole name
        ("a/x2.mp4", None),
        ("a/xcopy.mp4", None),
        ("a/x_2.mp4", None),
        ("b/x.mp4", None),
        ("a/ (1).mp4", None),
    ],
)
def test_a_copy_has_the_name_and_size_of_another_file(path: str, original: str | None) -> None:
    found = {path: original} if original else {}
    assert find_copies({"a/x.mp4": 5, path: 5}) == found
    assert find_copies({"a/x.mp4": 5, path: 6}) == find_copies({"a/x.mp4": 0, path: 0}) == {}
