"""What a change that conflicts is told."""

from __future__ import annotations

from commandcenter.core.conflict import EXCERPT_MAX, Clash, excerpt

MERGED = """\
before
<<<<<<< 1111111
theirs
=======
mine
>>>>>>> 2222222
after
"""


def test_both_sides_of_a_conflict_are_shown_and_what_is_around_is_not() -> None:
    assert excerpt({"a.py": MERGED, "image.png": "", "whole.py": "no conflict\n"}) == (
        "`a.py`\n\n```\n<<<<<<< landed meanwhile\ntheirs\n=======\nmine\n"
        ">>>>>>> your earlier change\n```"
    )


def test_an_excerpt_is_bounded_and_no_line_ends_its_block() -> None:
    lines = MERGED.replace("mine", "```\n" * EXCERPT_MAX)
    shown = excerpt({"a": lines, "b": MERGED})
    assert len(shown) < EXCERPT_MAX + 100
    assert "[cut off]\n````" in shown
    assert "`b`" not in shown


def test_the_words_name_both_tasks_and_the_files() -> None:
    clash = Clash(("a.py", "b.py"), "task 1.2 (Two)", ("task 1.1 (One)",))
    assert clash.words == (
        "task 1.2 (Two) conflicts with what landed meanwhile in: a.py, b.py, of task 1.1 (One)"
    )


def test_the_agent_is_told_where_and_what_the_other_work_is() -> None:
    clash = Clash(("a.py",), "task 1.2 (Two)", ("task 1.1 (One)",), excerpt({"a.py": MERGED}))
    for words in ("- `a.py`", "- task 1.1 (One)", "theirs\n=======\nmine", "keep what the other"):
        assert words in clash.feedback


def test_a_conflict_is_stored_and_read_again() -> None:
    clash = Clash(("a.py",), "task 1.2 (Two)", ("task 1.1 (One)",), "text")
    assert Clash.from_json(clash.to_json()) == clash


def test_what_an_older_version_recorded_is_read() -> None:
    old = {"outcome": "conflict", "files": ["a.py"], "with": ["1.1"]}
    assert Clash.from_json(old) == Clash(("a.py",), "the change", ("task 1.1",))
