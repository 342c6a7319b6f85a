"""The comparison of two runs is `evaluate text2image --interval` now; this command says so."""

import sys

from dofsuite.cli import EXIT_MISTAKE


def main() -> int:
    print(
        "text2image.comparison: this is called evaluate text2image --interval now; write "
        "python -m dofsuite.evaluate text2image --interval FIRST SECOND -o DIR.",
        file=sys.stderr,
    )
    return EXIT_MISTAKE


if __name__ == "__main__":
    raise SystemExit(main())
