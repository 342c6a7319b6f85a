"""Participants over HTTP: every answer once, nothing served but the page and its videos."""

import http.client
import json
import socket
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from dofsuite.errors import UserError
from dofsuite.evaluate import main
from dofsuite.evaluation.study.answers import AnswerLog, read_answers
from dofsuite.evaluation.study.config import ServeConfig
from dofsuite.evaluation.study.server import StudyServer
from tests.evaluation.study.simulated import (
    RATES,
    HttpParticipant,
    in_threads,
    make_study,
    serving,
)

SECRETS = ["our method", "sdxl", "distilled", "tokens", "fixed", "deep", "prompt", "baseline"]


def lines_of(study):
    return [json.loads(line) for line in (study.folder / "answers.jsonl").open()]


def get(port, path, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers or {})
    response = connection.getresponse()
    data = response.read()
    connection.close()
    return response, data


def test_25_participants_at_once_are_stored_exactly_once(tmp_path, capsys):
    study = make_study(tmp_path / "study")
    people = []

    def arrive(seed):
        person = HttpParticipant(study, server.server_port, seed)
        people.append(person)
        if seed == 0:
            # Stops half-way, closes the page, comes back by the link
            person.take_part(stop_at=12)
            person.close()
            person.connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
            assert person.question()["index"] == 12
        if seed == 1:
            # Two windows of one link
            in_threads([partial(second_window(person).take_part, stop_at=25), person.take_part])
        person.take_part(times=2 if seed == 2 else 1)
        person.close()

    def second_window(person):
        other = object.__new__(HttpParticipant)
        vars(other).update(vars(person))
        other.connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
        return other

    with serving(study) as server:
        in_threads([partial(arrive, seed) for seed in range(25)])

    # Every answer once, in order
    lines = lines_of(study)
    assert len({person.id for person in people}) == 25
    starts = [line["number"] for line in lines if line["event"] == "start"]
    assert starts == list(range(25))
    answers = [line for line in lines if line["event"] == "answer"]
    assert len(answers) == 25 * 25
    for person in people:
        own = [line for line in answers if line["participant"] == person.id]
        assert [line["index"] for line in own] == list(range(25))
        votes = [line for line in own if line["kind"] == "vote"]
        for key, values in (("baseline", RATES), ("ours", ("left", "right"))):
            counts = Counter(line[key] for line in votes)
            assert max(counts.values()) - min(counts[v] for v in values) <= 1
    total = Counter(line["baseline"] for line in answers if line["kind"] == "vote")
    assert sorted(total.values()) == [83, 83, 83, 83, 84, 84]

    # Nothing that a participant received says which method is which
    received = b"".join(part for person in people for part in person.received).decode().lower()
    assert [word for word in SECRETS if word in received] == []

    # What the report says is what was answered
    assert main(["study", "report", str(study.folder)]) == 0
    assert "| deep | 83 |" in capsys.readouterr().out
    report = json.loads((study.folder / "report.json").read_text())
    for row in report["tables"][0]["rows"]:
        wins = sum(
            line["chosen"] == line["ours"]
            for line in answers
            if line["kind"] == "vote" and line["baseline"] == row["name"]
        )
        assert row["values"]["ours preferred"] == wins
        assert row["values"]["votes"] == total[row["name"]]
    assert report["facts"]["participants"] == "25, of whom 25 finished; 25 count"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("study"), num_prompts=3)


@pytest.fixture(scope="module")
def port(study):
    with serving(study) as server:
        yield server.server_port


PATHS = [
    "/key.json",
    "/answers.jsonl",
    "/videos/",
    "/videos/../key.json",
    "/videos/%2e%2e/key.json",
    "/videos/..%2fkey.json",
    "/../key.json",
    "//key.json",
    "/./key.json",
    "/study.js/../key.json",
    "/page/study.html",
    "/server.py",
    "/etc/passwd",
    "http://127.0.0.1/key.json",
    "/question",
    "/question?p=nobody",
    "/nothing",
]


@pytest.mark.parametrize("path", PATHS)
def test_nothing_else_is_served(port, path):
    response, data = get(port, path)
    assert response.status == 404
    assert len(data) < 100


def test_every_answer_of_the_server_forbids_requests_elsewhere(port, study):
    video = study.video("our method", study.prompts[0])
    for path in ("/", "/study.css", "/study.js", f"/videos/{video}", "/nothing"):
        response, data = get(port, path)
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        text = (str(response.headers) + data.decode()).lower()
        assert [word for word in SECRETS if word in text] == []
        assert "http:" not in text
        assert "https:" not in text
        assert "python" not in text


def test_a_video_is_sent_in_ranges(port, study):
    name = study.video("our method", study.prompts[0])
    content = study.path(name).read_bytes()
    length = len(content)
    for asked, part in {"0-1": content[:2], "5-": content[5:], "-7": content[-7:]}.items():
        response, data = get(port, f"/videos/{name}", {"Range": f"bytes={asked}"})
        assert (response.status, data) == (206, part)
        assert response.headers["Content-Range"].endswith(f"/{length}")
    assert get(port, f"/videos/{name}", {"Range": f"bytes={length}-"})[0].status == 416
    assert get(port, f"/videos/{name}", {"Range": "lines=1-2"})[1] == content
    assert get(port, f"/videos/{name}")[0].headers["Accept-Ranges"] == "bytes"


BAD = [
    b"",
    b"no JSON",
    b"[]",
    b"[" * 4000,
    {"participant": "nobody"},
    {"index": 1},
    {"index": -1, "chosen": "up"},
    {"index": "0"},
    {"index": True},
    {"chosen": "up"},
    {"chosen": None},
    {"reaction_s": -1},
    {"reaction_s": float("nan")},
    {"reaction_s": "soon"},
]


@pytest.mark.parametrize("bad", BAD, ids=str)
def test_what_is_no_answer_is_refused_and_not_stored(port, study, bad):
    person = HttpParticipant(study, port, 0)
    good = {"participant": person.id, "index": 0, "chosen": "left", "reaction_s": 1.0}
    body = bad if isinstance(bad, bytes) else json.dumps(good | bad).encode()
    before = (study.folder / "answers.jsonl").read_bytes()
    person.connection.request("POST", "/answer", body, {"Content-Type": "application/json"})
    response = person.connection.getresponse()
    assert (response.status, len(response.read()) < 100) == (400, True)
    assert (study.folder / "answers.jsonl").read_bytes() == before
    assert person.question()["index"] == 0
    person.close()


def test_other_sites_cannot_answer(port, study):
    """A form of another site has no JSON type; what is long is not read."""
    before = (study.folder / "answers.jsonl").read_bytes()
    for headers, body in (
        ({"Content-Type": "text/plain"}, b"{}"),
        ({}, b"{}"),
        ({"Content-Type": "application/json", "Content-Length": "9000"}, b""),
    ):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("POST", "/start", body, headers)
        assert connection.getresponse().status == 400
        connection.close()
    assert (study.folder / "answers.jsonl").read_bytes() == before


def test_it_listens_on_one_address_of_this_machine_by_default(port):
    assert ServeConfig(folder=Path()).host == "127.0.0.1"
    # Linux has the whole of 127.0.0.0/8; a server for every address would be there too
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.2", port), 1):
        pass


def test_a_second_server_of_one_study_is_refused(study, port):
    with pytest.raises(UserError, match="another server has this study open"):
        AnswerLog(study)


def test_a_taken_port_is_one_sentence(tmp_path, port, capsys):
    other = make_study(tmp_path / "other", num_prompts=2)
    assert main(["study", "serve", str(other.folder), "--port", str(port)]) == 2
    text = capsys.readouterr().err
    assert f"--port {port}" in text
    assert text.count("\n") == 1


def test_a_server_that_starts_again_goes_on(tmp_path):
    study = make_study(tmp_path, num_prompts=4)
    with serving(study) as server:
        person = HttpParticipant(study, server.server_port, 0)
        person.take_part(stop_at=9)
        person.close()
    # The machine stopped in the middle of a line
    file = study.folder / "answers.jsonl"
    complete = file.read_bytes()
    with file.open("ab") as opened:
        opened.write(b'{"event": "answer", "participant": "')
    assert len(next(iter(read_answers(study).values())).answers) == 9
    with serving(study) as server:
        person.connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
        assert person.question()["index"] == 9
        person.take_part()
        person.close()
    assert file.read_bytes().startswith(complete)
    assert len(lines_of(study)) == 26


def test_a_server_without_a_study_is_one_sentence(tmp_path, capsys):
    assert main(["study", "serve", str(tmp_path)]) == 2
    assert "there is no study" in capsys.readouterr().err
    study = make_study(tmp_path / "study", num_prompts=2)
    study.path(
        study.missing_videos[0]
        if study.missing_videos
        else next(iter(study.names["deep"].values()))
    ).unlink()
    assert main(["study", "report", str(study.folder)]) == 2
    assert "1 videos are missing" in capsys.readouterr().err


def test_the_address_may_be_closed_and_opened(tmp_path):
    study = make_study(tmp_path, num_prompts=2)
    with AnswerLog(study) as log:
        StudyServer(log, "127.0.0.1", 0).server_close()
        with pytest.raises(UserError, match=r"--host 192\.0\.2\.1"):
            StudyServer(log, "192.0.2.1", 0)
