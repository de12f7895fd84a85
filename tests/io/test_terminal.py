import io

import pytest
from rich.table import Table

from dfdm_ray.io.terminal import SafeConsole, say, visible

NASTY = "a\x1b]0;owned\x07\x1b[2Jb\u202e4pm\x9b31m\ud800.mp4"
HARMLESS = r"a\x1b]0;owned\x07\x1b[2Jb\u202e4pm\x9b31m\ud800.mp4"


def test_what_steers_a_terminal_is_spelled_out() -> None:
    assert visible(NASTY) == HARMLESS


@pytest.mark.parametrize("text", ["ü ñ 漢字\u3000.mp4", "50 % [red]", ""])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert visible(text) == text


def test_line_ends_stay_where_they_are_wanted() -> None:
    assert visible("two\nlines\x1b") == r"two\nlines\x1b"
    assert visible("two\nlines\x1b", keep="\n") == "two\nlines" + r"\x1b"


def test_a_log_file_gets_a_line_whole_and_a_name_is_no_markup() -> None:
    out = io.StringIO()
    say(SafeConsole(file=out, width=40), "[red] " + "word " * 30 + "end")
    assert out.getvalue() == "[red] " + "word " * 30 + "end\n"


def test_a_name_steers_no_terminal_in_a_line_or_a_table_and_colours_still_do() -> None:
    out = io.StringIO()
    console = SafeConsole(file=out, width=120, force_terminal=True, color_system="standard")
    table = Table("video")
    table.add_row(NASTY)
    console.print(NASTY, markup=False, highlight=False)
    console.print(table)
    console.print("[red]red[/red]")
    assert out.getvalue().startswith(HARMLESS.replace(r"\x07", ""))  # which rich leaves out itself
    assert not {"\x07", "\u202e", "\x9b", "\ud800"} & set(out.getvalue())
    assert "\x1b]0" not in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
    assert "\x1b[31mred\x1b[0m" in out.getvalue()
