"""Tables for people: columns as wide as what is in them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import click


def print_table(rows: Sequence[Sequence[str]], right: Collection[int] = (), head: Sequence[str] = ()) -> None:
    """Print what ``table_lines`` gives."""
    for line in table_lines(rows, right, head) if rows else ():
        click.echo(line)


def table_lines(
    rows: Sequence[Sequence[str]], right: Collection[int] = (), head: Sequence[str] = ()
) -> Iterator[str]:
    """Rows of the same length in columns.

    Args:
        rows: cells, printable; styles of click do not count for the width.
        right: numbers of columns whose cells stand at the right.
        head: titles of the columns; the first line has them.
    """
    every = [tuple(map(_bold, head)), *rows] if head else rows
    columns = range(len(every[0]) if every else 0)
    widths = [max(len(click.unstyle(row[column])) for row in every) for column in columns]
    for row in every:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            room = " " * (width - len(click.unstyle(cell)))
            cells.append(room + cell if column in right else cell + room)
        yield "  ".join(cells).rstrip()


def _bold(text: str) -> str:
    return click.style(text, bold=True)
