"""Tables of a report: numbers with intervals, further blocks of rows, as Markdown and LaTeX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from dofsuite.evaluation.statistics import Estimate

# Value of a cell: None where there is no number; an integer is printed as one.
Number = float | int | None
# A number, or one with its interval.
Cell = Number | Estimate
Row = tuple[str, Sequence[Cell]]

# What LaTeX needs escaped, and how.
LATEX = {each: f"\\{each}" for each in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
}


# The trained run whose numbers a row has, and how its evaluation differs from the usual.
class RunVariant(NamedTuple):
    run: Path
    variant: str


# Further rows of a table under a heading, which are not compared with the rows above.
class Block(NamedTuple):
    title: str
    rows: Sequence[Row]
    # Printed with their sign, and bold where the interval excludes 0.
    is_difference: bool = False
    # Of what others published, as many as they printed.
    decimals: int = 4

    def value(self, cell: Cell) -> str:
        return format_value(cell, self.is_difference, self.decimals)

    def interval(self, cell: Cell) -> str:
        """Return `[low, high]`, or nothing."""
        if not isinstance(cell, Estimate) or cell.interval is None:
            return ""
        ends = [format_value(end, self.is_difference, self.decimals) for end in cell.interval]
        return f"[{', '.join(ends)}]"

    def text(self, cell: Cell) -> str:
        """Return a cell's text, such as `0.0436 [0.0381, 0.0490]`."""
        return " ".join(filter(None, (self.value(cell), self.interval(cell))))


class Table(NamedTuple):
    """A table: rows of a name and a number for every column."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    notes: tuple[str, ...] = ()
    # By row name; stated in the JSON only.
    runs: Mapping[str, RunVariant] = MappingProxyType({})
    # Column -> 1 where the largest number is the best, -1 the smallest: it is bold.
    best: Mapping[str, int] = MappingProxyType({})
    # Rows that are no competitors.
    unranked: frozenset[str] = frozenset()
    blocks: tuple[Block, ...] = ()

    def check(self) -> None:
        """Check that every row has a cell for every column.

        Raises:
            ValueError: One has not.
        """
        for block in self.all_blocks():
            for name, values in block.rows:
                if len(values) != len(self.columns):
                    raise ValueError(
                        f"{self.title}: {name}: {len(values)} values for {len(self.columns)} "
                        "columns"
                    )

    def all_blocks(self) -> list[Block]:
        """Return its own rows as a block without a title, and the others."""
        return [Block("", self.rows), *self.blocks]

    def is_bold(self, block: Block, name: str, column: int) -> bool:
        """Whether a cell is bold: the best of its column, or a difference that is significant."""
        cell = dict(block.rows)[name][column]
        if block.is_difference:
            return isinstance(cell, Estimate) and cell.sign != 0
        sign = self.best.get(self.columns[column])
        if block.title or sign is None or name in self.unranked:
            return False
        # Of all competitors, if there are two at least
        ranked = [number_of(row[column]) for other, row in self.rows if other not in self.unranked]
        scores = [sign * value for value in ranked if value is not None]
        own = number_of(cell)
        return own is not None and len(scores) > 1 and sign * own == max(scores)


def number_of(cell: Cell) -> Number:
    return cell.value if isinstance(cell, Estimate) else cell


def interval_of(cell: Cell) -> tuple[float, float] | None:
    return cell.interval if isinstance(cell, Estimate) else None


def format_number(cell: Cell) -> str:
    """Return four decimals, with the interval where there is one: `0.0436 [0.0381, 0.0490]`."""
    return Block("", []).text(cell)


def format_value(cell: Cell, signed: bool = False, decimals: int = 4) -> str:
    """Return a number without its interval: an integer as it is, a dash for nothing."""
    value, sign = number_of(cell), "+" if signed else ""
    if value is None or isinstance(value, int):
        return "-" if value is None else str(value)
    return format(value, f"{sign}z.{decimals}f")  # z: no -0.0000


def markdown_table(table: Table) -> list[str]:
    """Return a table's lines, with its blocks and notes."""
    lines = [f"## {table.title}", "", markdown_row(["", *table.columns])]
    lines.append(markdown_row(["---", *["---:"] * len(table.columns)]))
    for block in table.all_blocks():
        if block.title:
            lines.append(markdown_row([f"*{block.title}*", *[""] * len(table.columns)]))
        for name, values in block.rows:
            cells = [block.text(value) for value in values]
            for column, text in enumerate(cells):
                if table.is_bold(block, name, column):
                    cells[column] = f"**{text}**"
            lines.append(markdown_row([name, *cells]))
    return [*lines, "", *(f"- {note}" for note in table.notes), *[""] * bool(table.notes)]


def markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def latex_tables(tables: Sequence[Table]) -> str:
    r"""Return all tables as LaTeX, for `\usepackage{booktabs}`; intervals in small type."""
    lines = ["% \\usepackage{booktabs}"]
    for table in tables:
        count = len(table.columns)
        lines += ["", f"% {table.title}", f"\\begin{{tabular}}{{l{'r' * count}}}", "\\toprule"]
        lines += [latex_row(["", *map(latex_text, table.columns)]), "\\midrule"]
        for block in table.all_blocks():
            if block.title:
                lines.append("\\midrule")
                title = latex_text(block.title)
                lines.append(f"\\multicolumn{{{count + 1}}}{{l}}{{\\emph{{{title}}}}} \\\\")
            lines += [latex_row(latex_cells(table, block, row)) for row in block.rows]
        lines += ["\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in table.notes)]
    return "\n".join([*lines, ""])


def latex_cells(table: Table, block: Block, row: Row) -> list[str]:
    name, values = row
    cells = [latex_text(name)]
    for column, value in enumerate(values):
        text = block.value(value).replace("inf", "$\\infty$")
        text = f"\\textbf{{{text}}}" if table.is_bold(block, name, column) else text
        interval = block.interval(value)
        cells.append(f"{text} {{\\scriptsize {interval}}}" if interval else text)
    return cells


def latex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def latex_text(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)
