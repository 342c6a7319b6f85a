"""A dry run says yield and cost, and touches nothing."""

from __future__ import annotations

from tests.curation.conftest import OPTIONS, curate


def test_a_dry_run_on_every_image_says_what_the_run_keeps(curated, tmp_path, capsys):
    photos = curated.folder / "photos"
    words = ("--answers", curated.answers, *OPTIONS, "--dry-run", 200)
    assert curate(photos, "-o", tmp_path / "out", *words) == 0
    said = capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    # Before duplicates: those are the merge's
    planted = curated.truth.values()
    for name in ("deep", "shallow"):
        kept = sum(each.set == name and each.rule in (None, "duplicate") for each in planted)
        assert f"{name}: {kept} expected" in said
        for rule in ("optics", "blur", "photograph"):
            count = sum(each.set == name and each.rule == rule for each in planted)
            assert f"{name}/{rule}: {count} of 200" in said
    header = next(line for line in said.splitlines() if line.startswith("header"))
    assert header.split()[1] == "200"
