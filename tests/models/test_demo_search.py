"""The ranking itself: pure functions, and their source as it goes into cells."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_rlm.runtime.models import demo_search as search

TEXT = st.text(alphabet=st.sampled_from("ab \n\té🎉İ"), max_size=200)


@given(texts=st.lists(TEXT, max_size=12), parts=st.integers(1, 40))
def test_pieces_hold_every_character_once_and_are_no_more_than_asked(texts, parts):
    pieces = search.split({str(number): text for number, text in enumerate(texts)}, parts)
    assert "".join(text for _, text in search.texts_of(pieces)) == "".join(texts)
    assert len(pieces) <= parts


def test_pieces_are_cut_between_lines_and_alike_in_size():
    pieces = search.split("a line of text\n" * 50_000, 16)
    assert len(pieces) == 16
    assert all(piece.endswith("\n") for piece in pieces)
    assert max(map(len, pieces)) - min(map(len, pieces)) < 1_000
    assert len(search.split("x" * 1_000_000, 8)) == 8  # also without any line end


@given(text=st.text(max_size=300))
def test_lower_case_keeps_places(text):
    assert len(search.lowered(text)) == len(text)


def test_question_words():
    assert search.question_words("How many retries did the scheduler make?") == {
        "retr": ["retries", 1.0],
        "scheduler": ["scheduler", 1.0],
    }
    assert search.question_words("Where is TreeStopped or ERR_42 raised?") == {
        "treestopped": ["TreeStopped", 2.0], "err_42": ["ERR_42", 2.0], "rais": ["raised", 1.0],
    }  # fmt: skip
    assert list(search.question_words("what is it")) == ["what", "is", "it"]  # nothing but small words: they must do
    assert len(search.question_words(" ".join(f"w{n}" for n in range(100)))) == 24


def test_stems_find_other_forms_and_names_stand_alone():
    ranking = search.rank("retries of job7", {"f": "retry later\njob77 done\njob7 done\nsorry\nreboot\nretried"})
    assert ranking[0]["stats"]["df"] == {"retr": 2, "job7": 1}


def test_a_line_with_all_words_beats_lines_with_one_word_often():
    text = "error error error error\n" * 3 + "timeout\n" + "an error by timeout at noon\n" + "nothing\n" * 50
    best = search.rank("Which error was a timeout?", text)[1]
    assert best["text"] == "an error by timeout at noon" and best["line"] == 5


def test_places_in_windows_lines_and_wide_characters():
    text = "🎉 eins\r\nİstanbul zwei\r\nneedle drei\r\n"
    best = search.rank("needle?", text)[1]
    assert (best["line"], text[best["start"] : best["end"]], best["text"]) == (3, "needle drei\r", "needle drei")


def test_a_text_without_lines_is_quoted_in_part():
    text = "x" * 50_000 + " the needle is here " + "y" * 50_000
    best = search.rank("needle?", text)[1]
    assert "the needle is here" in best["text"] and len(best["text"]) <= search.WINDOW
    assert best["line"] == 1 and 49_000 < best["start"] < 50_010


def test_a_sentence_broken_into_lines_is_quoted_whole():
    text = "Intro.\n\nThe harbour was closed because the storm\nhad torn away the northern\nmole. Nobody left.\n"
    best = search.rank("Why was the harbour closed?", text)[1]
    assert best["line"] == 3 and best["text"].endswith("mole. Nobody left.")


def test_equal_lines_are_told_once_with_their_number():
    answer = search.compose(search.rank("disk full", "disk full\n" * 7 + "other\n"), "in one piece", [])
    assert answer.count("disk full") == 1 and "(and 6 more that say the same)" in answer


def test_pieces_brought_together_rank_as_the_whole_does():
    rows = [f"row {n} alpha" for n in range(400)] + ["alpha beta gamma"] + [f"row {n} beta" for n in range(200)]
    text = "\n".join(rows) + "\n"
    question = "alpha beta gamma?"
    whole = search.rank(question, text)
    parts = search.combine([search.rank(question, piece) for piece in search.split(text, 9)])
    assert parts[0]["stats"]["df"] == whole[0]["stats"]["df"]
    assert parts[0]["stats"]["lines"] == whole[0]["stats"]["lines"] == 601
    assert (parts[1]["text"], parts[1]["score"]) == (whole[1]["text"], whole[1]["score"])


@pytest.mark.parametrize("value", [None, [], "text", [{"error": "x"}], {"stats": 1}, 0])
def test_what_a_failed_child_gives_is_no_ranking(value):
    assert not search.is_ranking(value)


def test_the_code_of_cells_stands_alone():
    space: dict = {}
    exec(search.RANK_CODE, space)
    assert space["rank"]("needle", "hay\nneedle\n")[1]["line"] == 2
    space = {}
    exec(search.RANK_AND_MERGE_CODE, space)
    assert "`text:2` needle" in space["compose"](space["combine"]([space["rank"]("needle", "hay\nneedle\n")]), "x", [])
    space = {}
    exec(search.SPLIT_AND_MERGE_CODE, space)
    assert space["split"]("a\n" * 10, 2) == ["a\n" * 6, "a\n" * 4]
    assert space["compose"](space["combine"]([search.rank("q", "q\n")]), "x", [])
