"""The same line plots as pictures, for slides and chats: drawn by OpenCV, no other package."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from deft.report.plot import _Axis, _limits, _log_ticks, _thin, _vectors, tick_text, ticks

_PALETTE = ("2563c9", "d9622b", "15855f", "a03ea8", "b58900", "0a8fa8", "c92a56", "6b7280")
"""Colours of the style sheet's light half."""
_INK, _SOFT, _LINE = (0x1D, 0x21, 0x27), (0x5D, 0x66, 0x73), (0xE4, 0xE6, 0xEA)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_SCALE = 2
"""Pixels per point: pictures are looked at on fine screens."""
_SHIFT = 4
"""Bits of a pixel that OpenCV draws at."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One plot; as in `plot.line_plot`."""

    title: str
    series: Mapping[str, tuple[Any, Any]]
    bands: Mapping[str, tuple[Any, Any, Any]] = field(default_factory=dict[str, Any])
    x_label: str = ""
    log_y: bool = False


def picture(figures: Sequence[Figure], columns: int = 2) -> np.ndarray:
    """Plots side by side, uint8 `H W 3`, RGB.

    Args:
        figures: at least one.
        columns: plots in a row, at most as many as there are.

    Raises:
        ShapeError: x and y of a curve are not vectors of one length.
    """
    columns = max(1, min(columns, len(figures)))
    tiles = [_figure(each) for each in figures]
    blank = np.full_like(tiles[0], 255)
    tiles += [blank] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return np.ascontiguousarray(np.concatenate(rows, axis=0))


def _figure(figure: Figure, width: int = 560, height: int = 320) -> np.ndarray:
    width, height = width * _SCALE, height * _SCALE
    canvas = np.full((height, width, 3), 255, np.uint8)
    _write(canvas, figure.title, 14, 22, 0.5, _INK)
    curves = {k: _vectors(figure.title, k, v, figure.log_y) for k, v in figure.series.items()}
    bands = {k: _vectors(figure.title, k, v, figure.log_y) for k, v in figure.bands.items()}
    every = [*curves.values(), *bands.values()]
    heights = np.concatenate([row for each in every for row in each[1:]]) if every else np.empty(0)
    shown = heights[np.isfinite(heights)]
    if not len(shown):
        _write(canvas, "No values to draw.", 14, 60, 0.45, _SOFT)
        return canvas
    top = _legend(canvas, list(curves), width // _SCALE) if len(curves) > 1 else 36
    across = np.concatenate([each[0] for each in every])
    across = across[np.isfinite(across)]
    low, high = _limits(shown, figure.log_y)
    x_low, x_high = float(across.min()), float(across.max())
    if x_high <= x_low:
        x_low, x_high = x_low - 0.5, x_high + 0.5
    y_ticks = _log_ticks(low, high) if figure.log_y else ticks(low, high, 6)
    left = 24 + 7 * max((len(tick_text(t)) for t in y_ticks), default=1)
    x = _Axis(x_low, x_high, left, width / _SCALE - 20)
    y = _Axis(low, high, height / _SCALE - 44, top, figure.log_y)
    _axes(canvas, x, y, y_ticks, figure.x_label)
    labels = list(curves)
    for label, (xs, lows, highs) in bands.items():
        _band(canvas, x(xs), y(lows), y(highs), _colour(labels.index(label)))
    for i, curve in enumerate(curves.values()):
        xs, ys = _thin(*curve)
        _line(canvas, x(xs), y(ys), _colour(i))
    return canvas


def _axes(canvas: np.ndarray, x: _Axis, y: _Axis, y_ticks: list[float], x_label: str) -> None:
    for value in y_ticks:
        at = float(y(np.asarray(value)))
        _stroke(canvas, [(x.start, at), (x.end, at)], _LINE, 1)
        text = tick_text(value)
        _write(canvas, text, x.start - 7 - 6.6 * len(text), at + 4, 0.36, _SOFT)
    for value in ticks(x.low, x.high, 6):
        at = float(x(np.asarray(value)))
        text = tick_text(value)
        _write(canvas, text, at - 3.3 * len(text), y.start + 16, 0.36, _SOFT)
    _stroke(canvas, [(x.start, y.start), (x.end, y.start)], _SOFT, 1)
    _write(canvas, x_label, (x.start + x.end) / 2 - 3 * len(x_label), y.start + 34, 0.38, _SOFT)


def _legend(canvas: np.ndarray, labels: list[str], width: int) -> float:
    """Draws the legend; returns where the plot may begin."""
    left, line = 14.0, 42.0
    for i, label in enumerate(labels):
        wide = 30 + 7.4 * len(label)
        if left > 14 and left + wide > width - 14:
            left, line = 14.0, line + 16
        _stroke(canvas, [(left, line - 4), (left + 16, line - 4)], _colour(i), 3)
        _write(canvas, label, left + 22, line, 0.38, _SOFT)
        left += wide
    return line + 14


def _band(
    canvas: np.ndarray, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: tuple[int, ...]
) -> None:
    shown = np.isfinite(low) & np.isfinite(high)
    if shown.sum() < 2:
        return
    there = np.stack([x[shown], high[shown]], 1)
    back = np.stack([x[shown], low[shown]], 1)[::-1]
    over = canvas.copy()
    cv2.fillPoly(over, [_points(np.concatenate([there, back]))], colour, cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(over, 0.2, canvas, 0.8, 0, canvas)


def _line(canvas: np.ndarray, x: np.ndarray, y: np.ndarray, colour: tuple[int, ...]) -> None:
    gaps = np.flatnonzero(~np.isfinite(y))
    for run in np.split(np.arange(len(y)), gaps):
        kept = run[np.isfinite(y[run])]
        if len(kept) == 1:
            centre = _points(np.array([[x[kept[0]], y[kept[0]]]]))[0, 0]
            cv2.circle(
                canvas, (int(centre[0]), int(centre[1])), 3 * _SCALE << _SHIFT, colour, -1,
                cv2.LINE_AA, _SHIFT,
            )  # fmt: skip
        elif len(kept):
            _stroke(canvas, list(zip(x[kept], y[kept], strict=True)), colour, 2)


def _stroke(
    canvas: np.ndarray, points: Sequence[tuple[float, float]], colour: tuple[int, ...], wide: int
) -> None:
    cv2.polylines(
        canvas, [_points(np.asarray(points))], False, colour, wide * _SCALE // 2 or 1,
        cv2.LINE_AA, _SHIFT,
    )  # fmt: skip


def _points(points: np.ndarray) -> np.ndarray:
    return np.round(points * (_SCALE << _SHIFT)).astype(np.int32)[:, None]  # n 1 2


def _write(
    canvas: np.ndarray, text: str, x: float, y: float, size: float, colour: tuple[int, ...]
) -> None:
    # OpenCV's own letters are ASCII.
    plain = text.encode("ascii", "replace").decode()
    place = (round(x * _SCALE), round(y * _SCALE))
    cv2.putText(canvas, plain, place, _FONT, size * _SCALE, colour, _SCALE // 2, cv2.LINE_AA)


def _colour(index: int) -> tuple[int, int, int]:
    text = _PALETTE[index % len(_PALETTE)]
    return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
