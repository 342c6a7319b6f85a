"""The report of a study: numbers, exclusions, the figure."""

import json
import re
from html.parser import HTMLParser

import pytest

from dofsuite.evaluate import main
from dofsuite.evaluation.study.report import write
from tests.evaluation.study.simulated import RATES, make_study, participant_of


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def people(study):
    """Ten; the last always chooses the left side."""
    people = [participant_of(study, number) for number in range(10)]
    people[9] = people[9]._replace(answers=[a._replace(chosen="left") for a in people[9].answers])
    return people


@pytest.fixture(scope="module")
def report(study, people):
    files = write(study, people)
    names = ["report.md", "report.json", "report.html", "tables.tex"]
    assert [file.name for file in files] == names
    return json.loads(files[1].read_text())


def test_the_excluded_do_not_count_and_are_named(study, people, report):
    result, every, persons = report["tables"]
    assert sum(row["values"]["votes"] for row in result["rows"]) == 9 * 20
    assert sum(row["values"]["votes"] for row in every["rows"]) == 10 * 20
    assert report["facts"]["participants"] == "10, of whom 10 finished; 9 count"
    (excluded,) = report["facts"]["excluded"]
    assert re.fullmatch(r"9: (failed 2 of 3|chose the left side).*", excluded)
    assert "excluded" in persons["rows"][9]["name"]
    wins = sum(
        a.prefers_ours
        for person in people[:9]
        for a in person.answers
        if a.question.kind == "vote" and a.question.baseline == "taf"
    )
    assert result["rows"][4]["values"]["ours preferred"] == wins


def test_the_paper_s_figure_stands_beside_ours_as_the_paper_says_it(report):
    (note,) = [note for note in report["tables"][0]["notes"] if note.startswith("Paper")]
    assert "at least 83 %" in note
    assert "[73.5%, 89.6%]" in note


def test_the_figure_s_bars_are_as_long_as_the_rates(study, report):
    text = (study.folder / "report.html").read_text()
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    widths = [float(width) for width in re.findall(r"<rect [^>]*width='([\d.]+)'", svg)]
    rates = [row["values"]["rate"] for row in report["tables"][0]["rows"]]
    assert widths == pytest.approx([560 * rate for rate in rates], abs=0.06)
    assert "over sdxl &lt;base&gt;" in svg
    assert "<script" not in text
    opened = []

    class Balanced(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img"):
                opened.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balanced().feed(text)
    assert opened == []


def test_baselines_without_a_vote_are_dashes(study):
    few = participant_of(study, 0)
    write(study, [few._replace(answers=few.answers[:3])])
    report = json.loads((study.folder / "report.json").read_text())
    without = [row["values"] for row in report["tables"][0]["rows"] if not row["values"]["votes"]]
    assert len(without) >= len(RATES) - 3
    assert all(v["rate"] is None and v["p"] is None for v in without)
    assert "no votes" in (study.folder / "report.html").read_text()


def test_a_study_without_answers_is_one_sentence(tmp_path, capsys):
    study = make_study(tmp_path, num_prompts=2)
    assert main(["study", "report", str(study.folder)]) == 2
    assert "there is no answer yet" in capsys.readouterr().err
