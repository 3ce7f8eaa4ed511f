"""Takes the paths of a folder apart: which pieces of them stand for something, judged by their shape alone."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

SEPARATORS = r"_\-. "
#: Letters that always stand together in this number are fields of one letter each, too.
SHORT = 4
#: Share of the files whose names must have a shape before it counts as that of the folder.
SHARE = 0.9
#: The expression of what may hold separators.
ANYTHING = "[^/]+"
#: Pieces of a token beyond which it is taken as a whole.
MOST_PIECES = 8


@dataclass(frozen=True)
class Piece:
    """One place in every name of a view: a run of letters or digits, a letter, a separator, or a whole token.

    Attributes:
        regex: that matches its values.
        token: number of the token it belongs to; -1 for a separator between tokens.
        run: number of its run of letters or digits within the token.
        kind: letters, digits, mixed or separator.
    """

    regex: str
    token: int
    run: int
    kind: str


@dataclass(frozen=True)
class View:
    """One way of taking a level of the paths apart.

    Attributes:
        level: 0 the stem, 1 the folder it lies in, 2 the one above; below 0 a column of a table.
        pieces: from left to right.
        rows: the values of the pieces for each file; None where a name has another shape.
        column: name of the column, if it is one.
        texts: the whole of the level for each file; empty for a column.
    """

    level: int
    pieces: tuple[Piece, ...]
    rows: tuple[tuple[str, ...] | None, ...]
    column: str = ""
    texts: tuple[str | None, ...] = ()

    def spans(self) -> Iterator[tuple[int, int]]:
        """Start and stop of every stretch of pieces within one token."""
        for start, piece in enumerate(self.pieces):
            if piece.token < 0:
                continue
            for stop in range(start + 1, len(self.pieces) + 1):
                if self.pieces[stop - 1].token != piece.token:
                    break
                yield start, stop

    def whole_runs(self, start: int, stop: int) -> bool:
        """Whether a stretch does not cut a run of letters or digits."""
        runs = [(piece.token, piece.run) for piece in self.pieces]
        return not (start and runs[start - 1] == runs[start]) and not (
            stop < len(runs) and runs[stop] == runs[stop - 1]
        )

    def whole_token(self, start: int, stop: int) -> bool:
        tokens = [piece.token for piece in self.pieces]
        return not (start and tokens[start - 1] == tokens[start]) and not (
            stop < len(tokens) and tokens[stop] == tokens[stop - 1]
        )


@dataclass(frozen=True)
class Field:
    """A stretch of pieces, and its value for each file."""

    view: View
    start: int
    stop: int

    @cached_property
    def values(self) -> tuple[str | None, ...]:
        return tuple(None if row is None else "".join(row[self.start : self.stop]) for row in self.view.rows)

    @cached_property
    def counts(self) -> Counter[str]:
        return Counter(value for value in self.values if value is not None)

    @property
    def lost(self) -> Counter[str]:
        """What the level holds in files that have another shape."""
        both = zip(self.view.texts, self.view.rows, strict=True) if self.view.texts else ()
        return Counter(text for text, row in both if text is not None and row is None)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.view.pieces[self.start : self.stop]

    @property
    def first(self) -> bool:
        """Whether nothing that varies stands before it in its level."""
        before = Field(self.view, 0, self.start)
        return self.start == 0 or len(before.counts) == 1

    def overlaps(self, other: Field) -> bool:
        """Whether two fields cannot both be read: they share characters, or take one level apart differently."""
        if self.view.level != other.view.level:
            return False
        return self.view is not other.view or (self.start < other.stop and other.start < self.stop)

    @property
    def examples(self) -> str:
        """Its first values, for people."""
        shown = sorted(self.counts)[:6]
        return ", ".join(shown) + (f", ... ({len(self.counts)})" if len(self.counts) > len(shown) else "")


def place_of(one: Field) -> str:
    """Where a field stands, for people."""
    level = one.view.level
    if one.view.column:
        return f"column {one.view.column}"
    part = "name" if level == 0 else "folder" if level == 1 else f"folder {level} above the file"
    tokens = [piece.token for piece in one.view.pieces]
    if len(one.pieces) == len(tokens):
        return part
    word = f"{part}, part {tokens[one.start] + 1} of {max(tokens) + 1}" if max(tokens) else part
    whole = one.view.whole_token(one.start, one.stop)
    return word if whole else f"{word}, {'the start' if one.first else 'within'}"


def views_of(paths: Sequence[PurePosixPath]) -> list[View]:
    """Every way of taking the levels of the paths apart that fits most of them; the likeliest of a level first."""
    depths = sorted(len(path.parts) - 1 for path in paths)
    # A few files that lie higher up do not hide what the others' folders say.
    depth = depths[int((1 - SHARE) * len(depths))] if depths else 0
    found = []
    for level in range(depth + 1):
        texts = [_level(path, level) for path in paths]
        if level and len(set(texts) - {None}) < 2:
            continue
        found += list(_views(level, texts))
    return found


def column_views(columns: Mapping[str, Sequence[str | None]]) -> list[View]:
    """The columns of a table beside the names, each as it is."""
    piece = Piece("[^/]+", 0, 0, "mixed")
    return [
        View(-number, (piece,), tuple((value,) if value else None for value in values), column)
        for number, (column, values) in enumerate(columns.items(), start=1)
        if any(values)
    ]


def _level(path: PurePosixPath, level: int) -> str | None:
    if level == 0:
        return path.stem
    return path.parts[-1 - level] if level < len(path.parts) else None


def _views(level: int, texts: Sequence[str | None]) -> Iterator[View]:
    split = [None if text is None else re.split(f"([{SEPARATORS}]+)", text) for text in texts]
    shapes = Counter(tuple(one[1::2]) for one in split if one)
    shape, number = shapes.most_common(1)[0]
    if number >= SHARE * shapes.total() or (number > 0.5 * shapes.total() and shape):
        yield _view(level, texts, [one if one and tuple(one[1::2]) == shape else None for one in split])
    if number < shapes.total():
        # Some values hold separators of their own: all tokens but one are counted from the two ends.
        widths = sorted(len(separators) + 1 for separators in shapes.elements())
        width = widths[int((1 - SHARE) * len(widths))]
        for before in range(width if width > 1 else 0):
            rows = [None if text is None else _from_the_ends(text, before, width) for text in texts]
            if sum(row is not None for row in rows) > 0.5 * shapes.total():
                yield _view(level, texts, rows)
    if shape or len(shapes) > 1:
        yield _view(level, texts, [None if text is None else [text] for text in texts])


def _from_the_ends(text: str, before: int, width: int) -> list[str] | None:
    """Tokens and separators: so many tokens, what lies between, and the rest of ``width`` tokens."""
    token, separator = f"([^{SEPARATORS}]+)", f"([{SEPARATORS}]+)"
    after = width - 1 - before
    match = re.fullmatch((token + separator) * before + "(.+)" + (separator + token) * after, text)
    return list(match.groups()) if match else None


def _view(level: int, texts: Sequence[str | None], rows: list[list[str] | None]) -> View:
    """A view of rows of tokens with separators between them, with each token taken apart."""
    width = next(len(row) for row in rows if row)
    pieces: list[Piece] = []
    columns: list[list[tuple[str, ...] | None]] = []
    for number in range(width):
        column = [None if row is None else row[number] for row in rows]
        if number % 2:
            values = {value for value in column if value is not None}
            pieces.append(Piece(literal(values.pop()) if len(values) == 1 else f"[{SEPARATORS}]+", -1, -1, "separator"))
            columns.append([None if value is None else (value,) for value in column])
        else:
            found, cut = _pieces(column, number // 2)
            pieces += found
            columns.append(cut)
    joined = [
        None if any(part is None for part in parts) else tuple(value for part in parts for value in part or ())
        for parts in zip(*columns, strict=True)
    ]
    return View(level, tuple(pieces), tuple(joined), texts=tuple(texts))


def _pieces(column: Sequence[str | None], token: int) -> tuple[list[Piece], list[tuple[str, ...] | None]]:
    """The pieces of a token, and what each file has of them."""
    cut = [None if value is None else tuple(re.findall(r"[^\W\d_]+|\d+|[\W_]+", value)) for value in column]
    shapes = Counter(tuple(_kind(run) for run in runs) for runs in cut if runs is not None)
    shape, number = shapes.most_common(1)[0]
    if number < SHARE * shapes.total() or len(shape) > MOST_PIECES:
        values = {value for value in column if value is not None}
        return [Piece(_loose(values), token, 0, "mixed")], [None if value is None else (value,) for value in column]
    fitting = [runs if runs is not None and tuple(map(_kind, runs)) == shape else None for runs in cut]
    pieces: list[Piece] = []
    parts: list[list[tuple[str, ...]]] = [[] for _ in column]
    for run, kind in enumerate(shape):
        values = {runs[run] for runs in fitting if runs is not None}
        lengths = {len(value) for value in values}
        letters = kind == "letters" and len(lengths) == 1 and 1 < max(lengths) <= SHORT and len(values) > 1
        for place in range(max(lengths) if letters else 1):
            found = {value[place] for value in values} if letters else values
            # A run that never varies is written out; a letter of one that does is a letter like others.
            pieces.append(Piece(regex_of(found, kind, written_out=len(values) == 1), token, run, kind))
        for row, runs in enumerate(fitting):
            if runs is not None:
                parts[row].append(tuple(runs[run]) if letters else (runs[run],))
    rows = [None if runs is None else tuple(v for part in parts[row] for v in part) for row, runs in enumerate(fitting)]
    return pieces, rows


def _kind(run: str) -> str:
    return "digits" if run.isdigit() else "letters" if run[0].isalpha() else "mixed"


def literal(text: str) -> str:
    """An expression for a text alone, without the backslashes that people stumble over."""
    return re.escape(text).replace("\\-", "-").replace("\\ ", " ")


def _loose(values: set[str]) -> str:
    """For tokens of no one shape."""
    return f"[^/{SEPARATORS}]+" if not any(re.search(f"[{SEPARATORS}]", value) for value in values) else ANYTHING


def regex_of(values: set[str], kind: str, written_out: bool = False) -> str:
    r"""An expression for all values of a run, and others like them.

    >>> regex_of({"03", "16"}, "digits"), regex_of({"a", "sa"}, "letters"), regex_of({"W", "L"}, "letters")
    ('\\d\\d', '[a-z]+', '[A-Z]')
    """
    text = "".join(values)
    if kind == "mixed":
        return literal(text) if len(values) == 1 else _loose(values)
    if kind == "letters" and written_out:
        return text
    if kind == "digits":
        unit = r"\d"
    elif text.isascii():
        unit = "[a-z]" if text.islower() else "[A-Z]" if text.isupper() else "[A-Za-z]"
    else:
        # Marks of vowels are no letters to an expression in some scripts.
        unit = r"[^\W\d_]"
    lengths = {len(value) for value in values}
    if len(lengths) > 1:
        return f"{unit}+"
    length = lengths.pop()
    return unit * length if (length < 4 and unit == r"\d") or length == 1 else f"{unit}{{{length}}}"


def joined_regex(pieces: Sequence[Piece]) -> str:
    r"""The expression of neighbours; equal letters in a row become one with a count.

    >>> joined_regex([Piece("[a-z]", 0, 0, "letters")] * 3)
    '[a-z]{3}'
    """
    found: list[tuple[str, int]] = []
    for piece in pieces:
        if found and found[-1][0] == piece.regex and piece.kind == "letters":
            found[-1] = (piece.regex, found[-1][1] + 1)
        else:
            found.append((piece.regex, 1))
    return "".join(regex if number == 1 else f"{regex}{{{number}}}" for regex, number in found)
