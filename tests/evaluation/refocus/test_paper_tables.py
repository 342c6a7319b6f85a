"""The paper's tables agree with each other under the rule by which ours are made."""

import pytest

from dofsuite.evaluation.refocus.paper_tables import ABLATIONS, BOKEH, DEBLUR, REFOCUS


@pytest.mark.parametrize("score", ["CLIP-I", "MAE", "CLIP-IQA"])
def test_all_sub_tasks_is_the_mean_over_the_ten_samples_of_a_scene(score):
    """2 refocus, 4 bokeh, 4 deblur samples; a mean over the three tasks does not print the paper's
    number.
    """
    refocus, bokeh, deblur = (
        dict(table)["DiffCamera (paper)"][score] for table in (REFOCUS, BOKEH, DEBLUR)
    )
    full = dict(ABLATIONS)["full (paper)"][f"all {score}"]
    assert round((2 * refocus + 4 * bokeh + 4 * deblur) / 10, 3) == full


def test_a_mean_over_tasks_would_not_print_the_papers_numbers():
    tasks = [dict(table)["DiffCamera (paper)"] for table in (REFOCUS, BOKEH, DEBLUR)]
    full = dict(ABLATIONS)["full (paper)"]
    means = {
        score: round(sum(task[score] for task in tasks) / 3, 3)
        for score in ("CLIP-I", "MAE", "CLIP-IQA")
    }
    assert means["CLIP-I"] != full["all CLIP-I"]
    assert means["MAE"] != full["all MAE"]
    assert means["CLIP-IQA"] != full["all CLIP-IQA"]


def test_the_deblur_columns_are_table_twos():
    full, deblur = dict(ABLATIONS)["full (paper)"], dict(DEBLUR)["DiffCamera (paper)"]
    assert all(full[f"deblur {score}"] == deblur[score] for score in ("MAE", "LPIPS", "PSNR"))
    assert full["bokeh LVCorr"] == dict(BOKEH)["DiffCamera (paper)"]["LVCorr"]
