"""Rows that survive a kill, are shared by processes, and come back in the order of their keys."""

import json

import pytest

from dofsuite.errors import UserError
from dofsuite.evaluation.work import place, rows, seed_of

KEYS = ["b/1", "a/2", "a 3", "c"]


def as_process(monkeypatch, rank, processes):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(processes))


def test_rows_come_in_the_order_of_their_keys_and_are_made_once(tmp_path):
    made = []

    def make(key):
        made.append(key)
        return {"key": key, "tenth": 0.1 + 0.2}

    for _ in range(2):
        found = rows(tmp_path / "rows", KEYS, make, {"seed": 0})
        assert [row["key"] for row in found] == KEYS
        assert found[0]["tenth"] == 0.1 + 0.2
    assert made == KEYS


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    made = []

    def make(key):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(key)
        return {"key": key}

    with pytest.raises(KeyboardInterrupt):
        rows(tmp_path / "rows", KEYS, make, {})
    again = rows(tmp_path / "rows", KEYS, lambda key: {"key": key, "later": True}, {})
    assert [row.get("later", False) for row in again] == [False, False, True, True]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_keys_and_the_last_one_reads_them_all(tmp_path, monkeypatch, processes):
    made = []

    def make(key):
        made.append(key)
        return {"key": key}

    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        found = rows(tmp_path / "rows", KEYS, make, {})
        done = {key for number, key in enumerate(KEYS) if number % processes <= rank}
        assert (found is None) == (done != set(KEYS))
    assert sorted(made) == sorted(KEYS)
    assert [row["key"] for row in found] == KEYS


def test_rows_of_other_settings_are_not_mixed(tmp_path):
    rows(tmp_path / "rows", KEYS, lambda key: {}, {"seed": 0, "levels": (5, 10)})
    rows(tmp_path / "rows", KEYS, lambda key: {}, {"levels": [5, 10], "seed": 0})
    with pytest.raises(UserError, match=r"settings.json: seed: .* 0, not 1; name another folder"):
        rows(tmp_path / "rows", KEYS, lambda key: {}, {"seed": 1, "levels": [5, 10]})


def test_a_key_with_a_slash_is_one_file(tmp_path):
    rows(tmp_path / "rows", ["a/b", "a%2Fb"], lambda key: {"key": key}, {})
    kept = [json.loads(path.read_text())["key"] for path in (tmp_path / "rows").glob("row-*.json")]
    assert sorted(kept) == ["a%2Fb", "a/b"]


def test_the_place_is_torchruns_or_slurms_or_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert place() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert place() == (0, 1)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert place() == (2, 4)
    as_process(monkeypatch, 1, 3)
    assert place() == (1, 3)
    as_process(monkeypatch, 3, 3)
    with pytest.raises(UserError, match="RANK"):
        place()


def test_a_seed_is_a_function_of_seed_and_key():
    assert seed_of("a") == seed_of("a", 0) != seed_of("b")
    assert seed_of("a", 1) != seed_of("a", 0)
    assert 0 <= seed_of("a") < 2**63
