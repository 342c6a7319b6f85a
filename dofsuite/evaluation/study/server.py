"""The page of a human study (Figure A7), shown to its participants.

    python -m dofsuite.evaluate study serve DIR

It listens on this machine only, unless --host says otherwise. Pages, scripts and videos are served
by exact name, and nothing else is; no answer of the server has a method's name in it. The content
security policy keeps the page from loading anything from elsewhere.
"""

import json
import math
import re
import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from dofsuite.errors import UserError
from dofsuite.evaluation.study.answers import AnswerLog
from dofsuite.evaluation.study.config import ServeConfig
from dofsuite.evaluation.study.questions import videos_of
from dofsuite.evaluation.study.study import Study, open_study

# Path: file in `page/`, type.
PAGES = {
    "/": ("study.html", "text/html; charset=utf-8"),
    "/study.css": ("study.css", "text/css; charset=utf-8"),
    "/study.js": ("study.js", "text/javascript; charset=utf-8"),
}
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "media-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    # The page's address is the participant's link
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# An answer is shorter.
MAX_BODY_BYTES = 4096
TIMEOUT_S = 30
# A participant's choice takes about as long, after the videos have played once.
DECISION_S = 5
RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def run(config: ServeConfig) -> None:
    study = open_study(config.folder)
    with AnswerLog(study) as log, StudyServer(log, config.host, config.port) as server:
        # Where it is, and who took part before
        finished = sum(
            len(each.answers) == study.num_questions for each in log.participants.values()
        )
        print(
            f"{study.folder}: {len(log.participants)} participants so far, {finished} of them "
            f"finished.\nOpen http://{config.host}:{server.server_port}/ (Ctrl-C stops; the same "
            "command goes on).",
            flush=True,
        )
        if config.host not in ("127.0.0.1", "localhost"):
            print("Whoever reaches this address may take part; it is not encrypted.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("Stopped; every answer is stored.", flush=True)


def page(name: str, study: Study) -> bytes:
    # A file of the page, with the number of questions and how long they take
    text = (files("dofsuite.evaluation.study") / "page" / name).read_text(encoding="utf-8")
    minutes = math.ceil(study.num_questions * (study.loop_s + DECISION_S) / 60)
    text = text.replace("__TOTAL__", str(study.num_questions))
    return text.replace("__MINUTES__", str(minutes)).encode()


class StudyServer(ThreadingHTTPServer):
    """Serves one study; `port` 0 is any free one.

    Raises:
        UserError: The address cannot be listened on.
    """

    daemon_threads = True

    def __init__(self, log: AnswerLog, host: str, port: int) -> None:
        self.log = log
        names = log.study.names.values()
        self.videos = {name for by_prompt in names for name in by_prompt.values()}
        self.pages = {path: (page(name, log.study), kind) for path, (name, kind) in PAGES.items()}
        try:
            super().__init__((host, port), StudyHandler)
        except OSError as error:
            raise UserError(
                f"--host {host} --port {port}: it cannot be listened on ({error.strerror}); choose "
                "another port or address."
            ) from error

    def server_bind(self) -> None:
        # Not HTTPServer's, which asks a name server for this machine's name
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A closed page breaks connections; everything else is a defect
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class StudyHandler(BaseHTTPRequestHandler):
    """Answers the page's requests."""

    server: StudyServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "dofsuite", ""
    timeout = TIMEOUT_S

    @property
    def study(self) -> Study:
        return self.server.log.study

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        folder, _, name = address.path.rpartition("/")
        # Page, video, or the participant's next question
        if address.path in self.server.pages:
            self.reply(*self.server.pages[address.path])
        elif folder == "/videos" and name in self.server.videos:
            self.send_video(name)
        elif address.path == "/question":
            self.send_question(parse_qs(address.query).get("p", [""])[0])
        else:
            self.refuse(HTTPStatus.NOT_FOUND, "There is no such page.")

    def do_POST(self) -> None:
        # Other sites' pages cannot send JSON here: browsers ask first, and get no permission
        length = self.headers.get("Content-Length", "")
        is_json = self.headers.get("Content-Type", "").split(";")[0] == "application/json"
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES or not is_json:
            self.close_connection = True
            self.refuse(HTTPStatus.BAD_REQUEST, "A short JSON text is needed.")
            return
        body = self.rfile.read(int(length))

        # A new participant, or an answer
        try:
            if self.path == "/start":
                self.send_json({"participant": self.server.log.start()})
            elif self.path == "/answer":
                self.store_answer(body)
            else:
                self.refuse(HTTPStatus.NOT_FOUND, "There is no such page.")
        except OSError as error:
            print(f"{self.study.folder}: an answer could not be stored: {error}", file=sys.stderr)
            self.refuse(HTTPStatus.INSUFFICIENT_STORAGE, "The answer could not be stored.")

    def store_answer(self, body: bytes) -> None:
        try:
            given = json.loads(body)
            participant, index = str(given["participant"]), given["index"]
            if type(index) is not int:
                raise TypeError("index: no integer")
            reaction_s = float(given["reaction_s"])
            self.server.log.answer(participant, index, given["chosen"], reaction_s)
        except (KeyError, TypeError, ValueError, RecursionError):
            self.refuse(HTTPStatus.BAD_REQUEST, "That is no answer to the next question.")
            return
        self.send_question(participant)

    def send_question(self, participant: str) -> None:
        log, total = self.server.log, self.study.num_questions
        try:
            index = log.next_index(participant)
        except KeyError:
            self.refuse(HTTPStatus.NOT_FOUND, "This link belongs to no participant.")
            return
        # The page learns which videos to show and nothing else
        content: dict[str, Any] = {"index": index, "total": total}
        if index < total:
            left, right = videos_of(self.study, log.questions(participant)[index])
            content |= {"left": left, "right": right, "f_numbers": self.study.f_numbers}
        self.send_json(content)

    def send_json(self, content: dict[str, Any]) -> None:
        self.reply(json.dumps(content).encode(), "application/json")

    def send_video(self, name: str) -> None:
        data = self.study.path(name).read_bytes()
        # One range, which Safari asks for
        match = RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or match.groups() == ("", ""):
            self.reply(data, "video/mp4", {"Accept-Ranges": "bytes"})
            return
        first, last = match.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last), len(data) - 1) if first and last else len(data) - 1
        if start > end:
            headers = {"Content-Range": f"bytes */{len(data)}"}
            self.reply(b"", "video/mp4", headers, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        headers = {"Content-Range": f"bytes {start}-{end}/{len(data)}", "Accept-Ranges": "bytes"}
        self.reply(data[start : end + 1], "video/mp4", headers, HTTPStatus.PARTIAL_CONTENT)

    def refuse(self, status: HTTPStatus, sentence: str) -> None:
        self.reply(sentence.encode(), "text/plain; charset=utf-8", status=status)

    def reply(
        self,
        data: bytes,
        kind: str,
        headers: dict[str, str] | None = None,
        status: HTTPStatus = HTTPStatus.OK,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        caching = "private, max-age=3600" if kind == "video/mp4" else "no-store"
        self.send_header("Cache-Control", caching)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def end_headers(self) -> None:
        for name, value in SECURITY_HEADERS.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        # Requests are not logged: they have the participants' links in them
        pass
