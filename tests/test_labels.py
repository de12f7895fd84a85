"""The five generators and their spellings."""

import pytest

from dfdm_ray.labels import DFDM_TAGS, GENERATORS, Generator, class_name, parse_generator


def test_the_class_order_is_that_of_the_tags() -> None:
    assert GENERATORS == ("faceswap", "lightweight", "iae", "dfaker", "dfl-h128")
    assert [tag[0] for tag in DFDM_TAGS.values()] == ["1", "2", "3", "4", "5"]
    assert list(DFDM_TAGS) == list(Generator)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # tags, folders, plain names
        *((tag, generator) for generator, tag in DFDM_TAGS.items()),
        *((str(generator), generator) for generator in Generator),
        ("FaceSwap", Generator.FACESWAP),
        ("LightWeight", Generator.LIGHTWEIGHT),
        ("IAE", Generator.IAE),
        ("DFaker", Generator.DFAKER),
        ("DFL-H128", Generator.DFL_H128),
        # separators and case do not matter
        ("dfl_h128", Generator.DFL_H128),
        ("5DFL H128", Generator.DFL_H128),
        ("Original", Generator.FACESWAP),
        # not ours
        ("6foo", None),
        ("6iae", None),
        ("iae2", None),
        ("11original", None),
        ("", None),
        ("1", None),
        ("3", None),
    ],
)
def test_every_spelling_is_understood_and_nothing_else(name: str, expected: Generator | None) -> None:
    assert parse_generator(name) is expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Faceswap", "faceswap"),
        ("IAE", "iae"),
        (" dfl_h128 ", "dfl-h128"),
        ("4dfaker", "dfaker"),
        # real videos, or Faceswap: undecided
        ("original", "original"),
        ("1original", "1original"),
        # not ours
        ("FSGAN", "FSGAN"),
        # blank
        (" ", None),
    ],
)
def test_a_users_name_becomes_that_of_its_class(name: str, expected: str | None) -> None:
    assert class_name(name) == expected
