"""The result of a human study, beside Figure A6: `report.md`, `.json` and `.html` in its folder.

python -m dofsuite.evaluate study report DIR
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from dofsuite.errors import UserError
from dofsuite.evaluation.report import to_markdown, write_report
from dofsuite.evaluation.statistics import wilson_interval
from dofsuite.evaluation.study.analysis import (
    Preference,
    failed_checks,
    preferences,
    reason_excluded,
    repeats_agree,
)
from dofsuite.evaluation.study.answers import Participant, read_answers
from dofsuite.evaluation.study.bar_plot import preference_bars
from dofsuite.evaluation.study.build import PAPER_RATE
from dofsuite.evaluation.study.config import ReportConfig
from dofsuite.evaluation.study.statistics import NUM_RESAMPLES
from dofsuite.evaluation.study.study import NUM_CHECKS, NUM_REPEATS, Study, open_study
from dofsuite.evaluation.tables import Number, Table

TITLE = "Human study"
COLUMNS = (
    "votes",
    "ours preferred",
    "rate",
    "Wilson, low",
    "Wilson, high",
    "participants, low",
    "participants, high",
    "p",
    "p, Holm",
    "strength, ours 1",
)
PEOPLE_COLUMNS = (
    "answers",
    "checks failed",
    "repeats",
    "repeats that agree",
    "left, share",
    "median time, s",
)
PAPER_LOW, PAPER_HIGH = wilson_interval(PAPER_RATE * 83, 83)
NOTES = (
    "Wilson: 95 % interval of independent votes. participants: 95 % bootstrap interval over "
    f"participants ({NUM_RESAMPLES} resamples), which holds also where persons differ; where it is "
    "clearly the wider one, they do, and Wilson's interval and p are too good. At a rate of 0 or 1 "
    "it has no width: read Wilson's.",
    "p: exact binomial test against 1/2, two-sided; Holm: corrected for the number of baselines. "
    "0.0000 is below 0.00005; report.json has all digits.",
    "strength: Bradley-Terry, with half a vote added to either side.",
    "Paper (supplement E): its method was preferred to each of six baselines in at least 83 % of "
    "cases, by 25 participants with 20 votes each. It states no interval; 500 votes over six "
    f"baselines are 83 each, and 83 % of 83 has the interval [{PAPER_LOW:.1%}, {PAPER_HIGH:.1%}].",
)


def run(config: ReportConfig) -> None:
    study = open_study(config.folder)
    answered = [each for each in read_answers(study).values() if each.answers]
    if not answered:
        raise UserError(f"{study.folder}: there is no answer yet; run `study serve` first.")
    paths = write(study, answered)
    print(*paths, sep="\n", flush=True)


def write(study: Study, participants: Sequence[Participant]) -> list[Path]:
    """Print the tables, write the report, and return its files."""
    reasons = {each.number: reason_excluded(each, study) for each in participants}
    counted = [each for each in participants if reasons[each.number] is None]
    lines = preferences(study, counted)

    # Result; with every participant too, where some are excluded
    tables = [preference_table(f"How often {study.ours} was preferred", lines, NOTES)]
    if len(counted) < len(participants):
        every = preferences(study, participants)
        tables.append(preference_table("The same without any exclusion", every, ()))
    tables.append(people_table(participants, reasons))

    # Settings
    finished = sum(len(each.answers) == study.num_questions for each in participants)
    repeats = [repeats_agree(each.answers) for each in counted]
    agree, total = (sum(column) for column in zip((0, 0), *repeats, strict=True))
    facts = {
        "ours": study.ours,
        "participants": f"{len(participants)}, of whom {finished} finished; {len(counted)} count",
        "excluded": [f"{number}: {why}" for number, why in reasons.items() if why] or "nobody",
        "repeated questions answered alike": f"{agree} of {total}",
        "questions": f"{study.votes} votes, {NUM_CHECKS} attention checks, {NUM_REPEATS} repeats",
        "prompts": len(study.prompts),
        "f-numbers": study.f_numbers,
        "videos": f"{study.width_px} x {study.height_px} px, {study.loop_s:g} s",
    }
    print(to_markdown(TITLE, tables, facts), flush=True)
    figure = preference_bars(lines, study.ours, PAPER_RATE)
    return write_report(study.folder, TITLE, tables, [], facts, [figure])


def preference_table(title: str, lines: Sequence[Preference], notes: tuple[str, ...]) -> Table:
    rows: list[tuple[str, list[Number]]] = []
    for line in lines:
        wilson, bootstrap = line.wilson or (None, None), line.bootstrap or (None, None)
        values = [line.votes, line.wins, line.rate, *wilson, *bootstrap]
        rows.append((line.baseline, [*values, line.p, line.p_holm, line.strength]))
    return Table(title, COLUMNS, rows, notes)


def people_table(participants: Sequence[Participant], reasons: dict[int, str | None]) -> Table:
    rows: list[tuple[str, list[Number]]] = []
    for each in participants:
        # One row a participant
        agree, repeats = repeats_agree(each.answers)
        values: list[Number] = [
            len(each.answers),
            failed_checks(each.answers),
            repeats,
            agree,
            sum(answer.chosen == "left" for answer in each.answers) / len(each.answers),
            median(answer.reaction_s for answer in each.answers),
        ]
        why = reasons[each.number]
        rows.append((f"{each.number}" + (f" (excluded: {why})" if why else ""), values))
    notes = (
        "Rules, fixed beforehand: two of three checks failed, one side in all of 8 or more "
        "answers, or a median time that the page does not allow. Votes of participants who stopped "
        "early count. Repeats exclude nobody.",
    )
    return Table("Participants, by number", PEOPLE_COLUMNS, rows, notes)
