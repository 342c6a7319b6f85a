"""`dofsuite.app` in a Python that notes every address outside this machine that is asked for.

python -m tests.app.audited_app LOG ARGUMENTS...
"""

import sys

from dofsuite.app.__main__ import main

LOCAL = ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", None)
ADDRESS_AT = {"socket.connect": 1, "socket.getaddrinfo": 0, "socket.gethostbyname": 0}


def note_outside(event: str, args: tuple) -> None:
    if event not in ADDRESS_AT:
        return
    address = args[ADDRESS_AT[event]]
    host = address[0] if isinstance(address, tuple) else address
    if isinstance(host, bytes):
        host = host.decode()
    if host not in LOCAL and not str(host).startswith("/"):
        with open(sys.argv[1], "a") as log:
            log.write(f"{event} {address}\n")


if __name__ == "__main__":
    sys.addaudithook(note_outside)
    sys.exit(main(sys.argv[2:]))
