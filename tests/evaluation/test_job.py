"""Rows that survive a kill, are shared by processes, and come back in the order of their keys."""

import json

import pytest
import torch

from dofsuite.errors import UserError
from dofsuite.evaluation.job import (
    check_settings,
    compute_rows,
    default_device,
    rank_and_world_size,
    seed_of,
)

KEYS = ["b/1", "a/2", "a 3", "c"]


def as_process(monkeypatch, rank, processes):
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(processes))


def as_array_task(monkeypatch, number, numbers, **more):
    """One of `sbatch --array=...`, as SLURM tells it."""
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    variables = {"ID": number, "MIN": min(numbers), "MAX": max(numbers), "COUNT": len(numbers)}
    for name, value in {
        **{f"SLURM_ARRAY_TASK_{key}": value for key, value in variables.items()},
        **more,
    }.items():
        monkeypatch.setenv(name, str(value))


def test_rows_come_in_the_order_of_their_keys_and_are_made_once(tmp_path):
    computed = []

    def make(key):
        computed.append(key)
        return {"key": key, "tenth": 0.1 + 0.2}

    for _ in range(2):
        found = compute_rows(tmp_path / "rows", KEYS, make, {"seed": 0})
        assert [row["key"] for row in found] == KEYS
        assert found[0]["tenth"] == 0.1 + 0.2
    assert computed == KEYS


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    computed = []

    def make(key):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(key)
        return {"key": key}

    with pytest.raises(KeyboardInterrupt):
        compute_rows(tmp_path / "rows", KEYS, make, {})
    again = compute_rows(tmp_path / "rows", KEYS, lambda key: {"key": key, "later": True}, {})
    assert [row.get("later", False) for row in again] == [False, False, True, True]


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_share_the_keys_and_the_last_one_reads_them_all(tmp_path, monkeypatch, processes):
    computed = []

    def make(key):
        computed.append(key)
        return {"key": key}

    for rank in range(processes):
        as_process(monkeypatch, rank, processes)
        found = compute_rows(tmp_path / "rows", KEYS, make, {})
        done = {key for number, key in enumerate(KEYS) if number % processes <= rank}
        assert (found is None) == (done != set(KEYS))
    assert sorted(computed) == sorted(KEYS)
    assert [row["key"] for row in found] == KEYS


def test_rows_of_other_settings_are_not_mixed(tmp_path):
    compute_rows(tmp_path / "rows", KEYS, lambda key: {}, {"seed": 0, "levels": (5, 10)})
    compute_rows(tmp_path / "rows", KEYS, lambda key: {}, {"levels": [5, 10], "seed": 0})
    with pytest.raises(UserError, match=r"settings.json: seed: .* 0, not 1; name another folder"):
        compute_rows(tmp_path / "rows", KEYS, lambda key: {}, {"seed": 1, "levels": [5, 10]})


def test_a_key_with_a_slash_is_one_file(tmp_path):
    compute_rows(tmp_path / "rows", ["a/b", "a%2Fb"], lambda key: {"key": key}, {})
    kept = [json.loads(path.read_text())["key"] for path in (tmp_path / "rows").glob("row-*.json")]
    assert sorted(kept) == ["a%2Fb", "a/b"]


def test_the_place_is_torchruns_or_slurms_or_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    assert rank_and_world_size() == (0, 1)
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert rank_and_world_size() == (0, 1)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    assert rank_and_world_size() == (2, 4)
    as_process(monkeypatch, 1, 3)
    assert rank_and_world_size() == (1, 3)
    as_process(monkeypatch, 3, 3)
    with pytest.raises(UserError, match="RANK"):
        rank_and_world_size()


def test_the_tasks_of_an_array_share_and_what_srun_starts_in_each_too(monkeypatch):
    for numbers in ([0, 1, 2], [5, 6, 7], [1, 4, 7]):
        places = []
        for number in numbers:
            as_array_task(monkeypatch, number, numbers)
            places.append(rank_and_world_size())
        assert places == [(0, 3), (1, 3), (2, 3)]
    as_array_task(monkeypatch, 6, [5, 6, 7], SLURM_PROCID=1, SLURM_NTASKS=1)
    with pytest.raises(UserError, match="SLURM_PROCID"):
        rank_and_world_size()
    as_array_task(monkeypatch, 6, [5, 6, 7], SLURM_PROCID=0, SLURM_NTASKS=1)
    assert rank_and_world_size() == (1, 3)
    as_array_task(monkeypatch, 6, [5, 6, 7], SLURM_PROCID=3, SLURM_NTASKS=4)
    assert rank_and_world_size() == (7, 12)
    as_array_task(monkeypatch, 4, [4])
    assert rank_and_world_size() == (0, 1)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_an_array_with_gaps_is_refused_unless_it_is_said_which_process_this_is(monkeypatch, number):
    as_array_task(monkeypatch, number, [0, 1, 5])
    with pytest.raises(
        UserError, match=r"SLURM_ARRAY_TASK_ID: \d is of 3 numbers from 0 to 5 with gaps"
    ):
        rank_and_world_size()
    as_process(monkeypatch, 0, 1)
    assert rank_and_world_size() == (0, 1)


def test_an_array_s_task_makes_its_share_first_and_then_what_is_still_missing(
    tmp_path, monkeypatch
):
    computed, before = [], tmp_path / "before"

    def make(key):
        computed.append(key)
        return {"key": key}

    as_array_task(monkeypatch, 3, [2, 3])
    assert [row["key"] for row in compute_rows(tmp_path / "rows", KEYS, make, {})] == KEYS
    assert computed == [KEYS[1], KEYS[3], KEYS[2], KEYS[0]]
    as_array_task(monkeypatch, 2, [2, 3])
    assert compute_rows(tmp_path / "rows", KEYS, make, {}) is not None
    assert len(computed) == 4
    computed.clear()

    def make_while_another_does(key):
        if not computed:  # the other task makes all the other rows while this one makes its first
            as_array_task(monkeypatch, 3, [2, 3])
            computed.append("begun")
            compute_rows(before, KEYS[1:], make, {})
            as_array_task(monkeypatch, 2, [2, 3])
        return make(key)

    assert compute_rows(before, KEYS, make_while_another_does, {}) is not None
    assert computed == ["begun", KEYS[2], KEYS[3], KEYS[1], KEYS[0]]


def test_the_gpu_is_the_process_s_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    as_process(monkeypatch, 7, 8)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert default_device() == torch.device("cuda", 3)
    monkeypatch.delenv("LOCAL_RANK")
    assert default_device() == torch.device("cuda", 3)


def test_of_long_settings_the_value_that_differs_is_said_in_short(tmp_path):
    prompts = [[f"{number:04d}", "a very long prompt " * 9, 50.0] for number in range(30)]
    check_settings(tmp_path, {"sources": {"prompts": prompts}})
    other = [*prompts[:20], ["0020", "a dog" * 40, 50.0], *prompts[21:]]
    with pytest.raises(UserError) as error:
        check_settings(tmp_path, {"sources": {"prompts": other}})
    text = str(error.value).removeprefix(str(tmp_path))
    assert text.startswith(
        "/settings.json: sources.prompts.20.1: these rows were computed with 'a very long prompt "
    )
    assert "not 'a doga dog" in text
    assert len(text) < 320
    with pytest.raises(
        UserError,
        match=r"sources.prompts.29: these rows were computed with \['0029', .* not nothing;",
    ):
        check_settings(tmp_path, {"sources": {"prompts": prompts[:-1]}})


def test_a_seed_is_a_function_of_seed_and_key():
    assert seed_of("a") == seed_of("a", 0) != seed_of("b")
    assert seed_of("a", 1) != seed_of("a", 0)
    assert 0 <= seed_of("a") < 2**63
