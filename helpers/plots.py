"""One function for each kind of figure: arrays in, the Axes out, nothing else changed.

Every function takes `ax=None` (a new figure is made) and returns the Axes; those that draw several pictures return an
array of Axes. Colours are safe for any colour vision: viridis and cividis for amounts, a blue-to-red map with a light
middle for signed values, seaborn's "colorblind" palette for categories. Call `plt.show()` in the notebook.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.text import Text

from .files import printable
from .images import as_image_list, as_shown
from .labels import by_name, pairs
from .settings import PALETTE, SEED
from .tokens import PatchGrid, piece_table

SEQUENTIAL = "viridis"
TABLE = "cividis"
DIVERGING = "vlag"


def to_array(image: Any) -> np.ndarray:
    """An image as an array that `imshow` takes: floats and [H, W] as they are, all else as the model is shown it."""
    if getattr(image, "ndim", None) != 2 and "float" not in str(getattr(image, "dtype", "")):
        return np.asarray(as_shown(image))
    if hasattr(image, "detach"):
        image = image.detach().cpu().float().numpy()
        return image.transpose(1, 2, 0) if image.ndim == 3 and image.shape[0] == 3 else image
    return image


# --- pictures ---------------------------------------------------------------------------------------------------------


def show_images(images: Any, titles: Sequence[str] | None = None, *, columns: int = 5, size: float = 1.4) -> np.ndarray:
    """Pictures in a grid.

    Args:
        images: list of PIL images, paths, arrays or tensors.
        titles: one for each, above it; of two Series those of one index belong together.
        columns: pictures in a row, at most.
        size: inches of one picture.

    Returns:
        array of Axes [rows, columns]; those without a picture are switched off.
    """
    images = images if isinstance(images, pd.Series) else list(images)
    if titles is not None and len(images):
        images, titles = by_name(images, titles, what=("images", "titles"))
        titles = list(titles)
    images = list(images)
    if not images:
        raise ValueError("No images to show.")
    axes = image_axes(len(images), columns=columns, size=size, titled=titles is not None)
    for k, image in enumerate(images):
        show_image(image, titles[k] if titles is not None else None, ax=axes.flat[k])
    return axes


def image_axes(count: int, *, columns: int = 5, size: float = 1.4, titled: bool = True) -> np.ndarray:
    """Empty square Axes in a grid for `count` pictures: array [rows, columns], the surplus switched off."""
    columns = min(columns, count)
    rows = -(-count // columns)
    _, axes = plt.subplots(
        rows,
        columns,
        figsize=(columns * size, rows * (size + 0.3 * titled)),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[count:]:
        ax.axis("off")
    return axes


def show_image(image: Any, title: str | None = None, *, ax: Axes | None = None) -> Axes:
    """One picture without axes."""
    ax = _ax(ax, (3, 3))
    array = to_array(image)
    ax.imshow(array, cmap="gray" if array.ndim == 2 else None)
    return _bare(ax, title)


def patch_grid(
    image: Any, grid: PatchGrid, *, highlight: Sequence[int] = (), number: bool = False, ax: Axes | None = None
) -> Axes:
    """A picture with the patches that the model sees drawn on it.

    Args:
        image: any accepted image.
        grid: from `helpers.patch_grid(model)`.
        highlight: patch numbers to frame.
        number: write each highlighted patch's number into it.
        ax: where to draw.
    """
    ax = _ax(ax, (4, 4))
    array = to_array(image)
    size = array.shape[1], array.shape[0]
    ax.imshow(array, cmap="gray" if array.ndim == 2 else None)
    left, right, bottom, top = grid.extent(size)
    ax.vlines(np.linspace(left, right, grid.w + 1) - 0.5, top - 0.5, bottom - 0.5, color="white", lw=0.5, alpha=0.7)
    ax.hlines(np.linspace(top, bottom, grid.h + 1) - 0.5, left - 0.5, right - 0.5, color="white", lw=0.5, alpha=0.7)
    for index in highlight:
        box(grid.box(index, size), ax=ax)
        if number:
            x0, y0, x1, y1 = grid.box(index, size)
            text = ax.text(
                (x0 + x1) / 2, (y0 + y1) / 2, str(index), color="white", ha="center", va="center", fontsize=9
            )
            text.set_path_effects([withStroke(linewidth=2, foreground="black")])
    ax.set(xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5))
    return _bare(ax)


def box(corners: tuple[float, float, float, float], *, label: str | None = None, ax: Axes) -> Axes:
    """A frame (left, top, right, bottom) on a picture that is drawn already; black under orange, seen on any stain."""
    left, top, right, bottom = corners
    for color, width in (("black", 3.5), (sns.color_palette(PALETTE)[1], 2.0)):
        ax.add_patch(
            Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=color, lw=width)
        )
    if label:
        _literal(ax.text(left, top - 3, printable(label), color="black", fontsize=9, va="bottom"))
    return ax


def mask_outlines(image: Any, masks: dict[str, np.ndarray], *, legend: bool = True, ax: Axes | None = None) -> Axes:
    """A picture with the outlines of its masks.

    Args:
        image: any accepted image.
        masks: part -> bool [H, W]; empty ones are left out.
        legend: name the parts below.
        ax: where to draw.
    """
    ax = _ax(ax, (4, 4))
    show_image(image, ax=ax)
    height, width = to_array(image).shape[:2]
    colors = sns.color_palette(PALETTE)
    for k, (part, mask) in reversed(list(enumerate(masks.items()))):  # the first part is drawn on top
        if not np.any(mask):
            continue
        outline(mask, (width, height), color=colors[k % len(colors)], ax=ax)
        ax.plot([], [], color=colors[k % len(colors)], lw=2, label=printable(part))
    if legend:
        handles, labels = ax.get_legend_handles_labels()
        box = ax.legend(
            handles[::-1],
            labels[::-1],
            loc="upper center",
            bbox_to_anchor=(0.5, 0),
            ncols=3,
            fontsize=9,
            handlelength=1.2,
            columnspacing=1,
        )
        _literal(*box.get_texts())
    return ax


def outline(mask: Any, image_size: tuple[int, int], *, color: Any = "white", width: float = 1.3, ax: Axes) -> Axes:
    """The outline of one mask on a picture or map that is drawn already; an empty mask draws nothing.

    Args:
        mask: bool [H, W], any size; it is stretched over the picture.
        image_size: (width, height) of the picture.
        color: of the line; black or white lies under it, whichever it stands out from.
        width: of the line, in points.
        ax: where to draw.
    """
    mask = np.asarray(mask, dtype=float)
    if mask.any():
        x = (np.arange(mask.shape[1]) + 0.5) * image_size[0] / mask.shape[1] - 0.5
        y = (np.arange(mask.shape[0]) + 0.5) * image_size[1] / mask.shape[0] - 0.5
        under = "black" if color == "white" else "white"
        ax.contour(x, y, mask, levels=[0.5], colors=under, linewidths=1.7 * width)
        ax.contour(x, y, mask, levels=[0.5], colors=[color], linewidths=width)
    return ax


# --- maps on pictures -------------------------------------------------------------------------------------------------


def concept_map(
    image: Any,
    map_: Any,
    grid: PatchGrid | None = None,
    *,
    title: str | None = None,
    limits: tuple[float, float] | None = None,
    opacity: float = 0.6,
    interpolation: str = "nearest",
    colorbar: bool = True,
    cmap: str = SEQUENTIAL,
    ax: Axes | None = None,
) -> Axes:
    """A concept map laid over its picture.

    Args:
        image: any accepted image.
        map_: float [h, w], e.g. one of `helpers.concept_maps`.
        grid: from `helpers.patch_grid(model)`: places the map exactly where the model looks; without it the map is
            stretched over the whole picture.
        title: above.
        limits: (low, high) of the colours; give the same to maps that are to be compared.
        opacity: of the map, 0 to 1.
        interpolation: "nearest" shows the patches as they are, "bilinear" smooths (it adds no detail).
        colorbar: draw one.
        cmap: a matplotlib colour map.
        ax: where to draw.
    """
    ax = _ax(ax, (3.6, 3))
    array, values = to_array(image), _values(map_)
    height, width = array.shape[:2]
    grey = array.mean(-1) if array.ndim == 3 else array  # colour on colour would be read as concept
    ax.imshow(grey, cmap="gray")
    left, right, bottom, top = grid.extent((width, height)) if grid is not None else (0, width, height, 0)
    low, high = limits or (values.min(), values.max())
    shown = ax.imshow(
        values,
        cmap=cmap,
        vmin=low,
        vmax=high,
        alpha=opacity,
        interpolation=interpolation,
        extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5),
    )
    ax.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    if colorbar:
        bar = ax.figure.colorbar(shown, ax=ax, fraction=0.046, pad=0.03)
        bar.solids.set_alpha(1)  # type: ignore[union-attr]
        bar.ax.tick_params(labelsize=9)
    return _bare(ax, title)


def component_rows(images: Any, colours: Any) -> np.ndarray:
    """Pictures above their patches in colours: all three components as red, green and blue, then the first alone.

    Args:
        images: B images, as in `helpers.encode_images`.
        colours: float [B, h, w, 3] in [0, 1].

    Returns:
        array of Axes [3, B].
    """
    images, values = as_image_list(images), _values(colours)
    if values.ndim != 4 or values.shape[::3] != (len(images), 3):
        raise ValueError(f"colours {values.shape} must be [{len(images)} images, h, w, 3].")
    axes = image_axes(3 * len(images), columns=len(images), size=1.7, titled=False)
    for k, image in enumerate(images):
        for ax, picture in zip(axes[:, k], (image, values[k], values[k, ..., 0]), strict=True):
            ax.imshow(to_array(picture), cmap=SEQUENTIAL)
            _bare(ax)
    for ax, name in zip(axes[:, 0], ("picture", "three components", "the first alone"), strict=True):
        ax.set_ylabel(name, fontsize=10)
    return axes


def concept_map_grid(
    images: Any,
    maps: Any,
    phrases: Sequence[str],
    grid: PatchGrid | None = None,
    *,
    limits: tuple[float, float] | str = "shared",
    size: float = 1.9,
    label: str = "cosine",
    **style: Any,
) -> np.ndarray:
    """Pictures (rows) and their maps for several phrases (columns), on one colour scale with one colour bar.

    Args:
        images: B images, as in `helpers.encode_images`; or one alone.
        maps: float [B, K, h, w], from `helpers.concept_maps`.
        phrases: K column titles.
        grid: as in `concept_map`.
        limits: "shared": the 1st to 99.8th percentile of all maps; or (low, high).
        size: inches of one picture.
        label: of the colour bar.
        style: opacity, interpolation, cmap as in `concept_map`.

    Returns:
        array of Axes [B, K + 1].
    """
    images, values = as_image_list(images), _values(maps)
    if values.ndim != 4 or values.shape[:2] != (len(images), len(phrases)):
        raise ValueError(f"maps {values.shape} must be [{len(images)} images, {len(phrases)} phrases, h, w].")
    low, high = np.percentile(values, [1, 99.8]) if isinstance(limits, str) else limits
    columns = len(phrases) + 1
    figure, axes = plt.subplots(
        len(images),
        columns,
        figsize=(columns * size + 0.7, len(images) * size + 0.4),
        squeeze=False,
        layout="constrained",
    )
    for b, image in enumerate(images):
        show_image(image, "picture" if b == 0 else None, ax=axes[b, 0])
        for k, phrase in enumerate(phrases):
            concept_map(
                image,
                values[b, k],
                grid,
                title=phrase if b == 0 else None,
                limits=(low, high),
                colorbar=False,
                ax=axes[b, k + 1],
                **style,
            )
    colours = plt.cm.ScalarMappable(Normalize(low, high), style.get("cmap", SEQUENTIAL))
    figure.colorbar(colours, ax=axes[:, -1], label=label, shrink=0.8, pad=0.03)
    return axes


def piece_grid(texts: Any, prompts: Sequence[int] | None = None, *, ax: Axes | None = None) -> Axes:
    """Prompts as columns of their pieces, coloured by kind: word, continued, unknown, special, padding (white).

    Args:
        texts: TextEncodings, from `helpers.encode_texts`.
        prompts: the numbers of those to show; by default all.
        ax: where to draw.
    """
    kinds = ["word", "continued", "unknown", "special", "padding"]
    prompts = range(len(texts.pieces)) if prompts is None else prompts
    tables = [piece_table(texts, n) for n in prompts]
    coded = np.array([[kinds.index(kind) for kind in table["kind"]] for table in tables]).T  # (T, N)
    colors = ListedColormap([*sns.color_palette("pastel")[:3], "lightgrey", "white"])
    positions, columns = coded.shape
    ax = _ax(ax, (1.02 * columns + 0.6, 0.29 * positions + 0.6))
    ax.pcolormesh(coded, cmap=colors, vmin=-0.5, vmax=4.5, edgecolors="white", lw=2)
    for column, table in enumerate(tables):
        for row, piece in enumerate(table["piece"]):
            text = ax.text(column + 0.5, row + 0.5, printable(piece), ha="center", va="center", fontsize=10)
            _literal(text)
    ax.set(xlabel="prompt", ylabel="position", ylim=(positions, 0))
    ax.set_xticks(np.arange(columns) + 0.5, list(map(str, prompts)))
    ax.set_yticks(np.arange(positions) + 0.5, list(map(str, range(positions))))
    return ax


def token_map_grid(
    image: Any,
    maps: Any,
    pieces: Sequence[str],
    grid: PatchGrid | None = None,
    *,
    columns: int = 6,
    limits: tuple[float, float] | None = None,
    size: float = 1.7,
    **style: Any,
) -> np.ndarray:
    """One picture with the map of every piece of a prompt, on one colour scale with one colour bar.

    Args:
        image: any accepted image.
        maps: float [T, h, w], from `helpers.tokens.token_maps`.
        pieces: T titles.
        grid: as in `concept_map`.
        columns: maps in a row, at most.
        limits: (low, high) of the colours; by default the 1st to 99.8th percentile of all maps.
        size: inches of one picture.
        style: opacity, interpolation, cmap as in `concept_map`.

    Returns:
        array of Axes [rows, columns]; the first shows the picture alone.
    """
    values = _values(maps)
    if values.ndim != 3 or len(values) != len(pieces):
        raise ValueError(f"maps {values.shape} must be [{len(pieces)} pieces, h, w].")
    low, high = limits or np.percentile(values, [1, 99.8])
    axes = image_axes(len(pieces) + 1, columns=columns, size=size)
    show_image(image, "picture", ax=axes.flat[0])
    for ax, map_, piece in zip(axes.flat[1:], values, pieces, strict=False):
        concept_map(image, map_, grid, title=piece, limits=(low, high), colorbar=False, ax=ax, **style)
    colours = plt.cm.ScalarMappable(Normalize(low, high), style.get("cmap", SEQUENTIAL))
    axes.flat[0].figure.colorbar(colours, ax=axes[:, -1], label="cosine", shrink=0.8, pad=0.03)
    return axes


# --- tables and scores ------------------------------------------------------------------------------------------------


def similarity_heatmap(
    matrix: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    clustered: bool = False,
    annotate: bool | None = None,
    label: str = "cosine",
    limits: tuple[float, float] | None = None,
    fmt: str = ".2f",
    ax: Axes | None = None,
) -> Axes:
    """A table of similarities as colours.

    Args:
        matrix: float [R, C], or a DataFrame whose labels are used.
        rows, columns: labels; a square table may leave out `columns`. For a DataFrame: its own labels in the order
            wanted, or others in their place.
        clustered: put similar rows (and, for a square table of one set, columns likewise) side by side.
        annotate: write the numbers; by default up to 15 columns.
        label: of the colour bar.
        limits, fmt: of colours and numbers.
        ax: where to draw.
    """
    if isinstance(matrix, pd.DataFrame):
        matrix, rows = _labelled(matrix, rows, "rows", 0)
        matrix, columns = _labelled(matrix, columns, "columns", 1)
    rows, columns = (None if names is None else list(names) for names in (rows, columns))
    values = _values(matrix)
    square = values.shape[0] == values.shape[1] and (columns is None or list(columns) == list(rows or []))
    columns = rows if columns is None and square else columns
    frame = pd.DataFrame(values, index=_printables(rows), columns=_printables(columns))
    if clustered:
        order = cluster_order(values)
        frame = frame.iloc[order, order if square else cluster_order(values.T)]
    annotate = values.shape[1] <= 15 if annotate is None else annotate
    ax = _ax(ax, (min(12, 2.5 + 0.62 * values.shape[1]), min(10, 1.2 + 0.4 * values.shape[0])))
    low, high = limits or (None, None)
    sns.heatmap(
        frame,
        ax=ax,
        cmap=TABLE,
        vmin=low,
        vmax=high,
        annot=annotate,
        fmt=fmt,
        annot_kws={"size": 9},
        linewidths=0.3,
        cbar_kws={"label": label},
        square=square,
    )
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    plt.setp(ax.get_yticklabels(), rotation=0)
    ax.set(xlabel="", ylabel="")
    _literal(*ax.get_xticklabels(), *ax.get_yticklabels())
    return ax


def pair_matrix(
    images: Any,
    texts: Sequence[str],
    values: Any,
    *,
    true: Any = None,
    label: str = "sigmoid",
    limits: tuple[float, float] = (0.0, 1.0),
    fmt: str = ".2f",
    size: float = 0.9,
    ax: Axes | None = None,
) -> Axes:
    """Every picture (columns, as thumbnails) against every text (rows): one coloured field with its number a pair.

    Args:
        images: B images, as in `helpers.encode_images`.
        texts: N row labels; long ones are broken into lines.
        values: float [B, N], pictures x texts, as `helpers.logits` gives them.
        true: [B, N]; where it is 1 (or True) the pair is true and gets an orange frame.
        label: of the colour bar.
        limits, fmt: of colours and numbers.
        size: inches of one thumbnail.
        ax: where to draw.

    Raises:
        ValueError: `values` or `true` are not [pictures, texts].
    """
    arrays, table = [to_array(image) for image in as_image_list(images)], _values(values)
    shape = len(arrays), len(texts)
    marks = np.zeros(shape) if true is None else _values(true)
    for name, given in (("values", table), ("true", marks)):
        if given.shape != shape:
            raise ValueError(f"{name} {given.shape} must be {shape}: one for each of the pictures and of the texts.")
    lines = ["\n".join(wrap(printable(text), 24)) or " " for text in texts]
    ax = _ax(ax, (2.4 + size * shape[0], 0.3 + size + 0.46 * shape[1]))
    tall = size / 0.46  # a thumbnail is as wide as a column, and so many rows high
    shown = ax.imshow(table.T, cmap=TABLE, vmin=limits[0], vmax=limits[1], aspect="auto")
    middle = np.mean(limits)
    for (b, n), value in np.ndenumerate(table):
        colour = "white" if value < middle else "black"
        ax.text(b, n, format(value, fmt), color=colour, ha="center", va="center", fontsize=11)
        if marks[b, n] == 1:
            frame = {"fill": False, "lw": 3, "ec": sns.color_palette(PALETTE)[3]}
            ax.add_patch(Rectangle((b - 0.46, n - 0.42), 0.92, 0.84, **frame))
    for b, array in enumerate(arrays):
        box_ = (b - 0.47, b + 0.47, -0.6, -0.6 - 0.94 * tall)
        ax.imshow(array, extent=box_, aspect="auto", cmap="gray" if array.ndim == 2 else None)
    ax.set(xlim=(-0.5, shape[0] - 0.5), ylim=(shape[1] - 0.5, -0.65 - 0.94 * tall), xticks=[])
    ax.set_yticks(range(shape[1]), lines, fontsize=11)
    _literal(*ax.get_yticklabels())
    ax.tick_params(length=0)
    sns.despine(ax=ax, left=True, bottom=True)
    ax.figure.colorbar(shown, ax=ax, label=label, pad=0.02, shrink=0.7)
    return ax


def cluster_order(values: Any) -> list[int]:
    """An order of the rows in which similar ones stand side by side (average linkage, optimal leaves)."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    values = _values(values)
    if len(values) < 3:
        return list(range(len(values)))
    return leaves_list(linkage(values, "average", optimal_ordering=True)).tolist()


def score_bars(
    scores: Any,
    labels: Sequence[str] | None = None,
    *,
    highlight: Sequence[str] = (),
    label: str = "score",
    sort: bool = False,
    line: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Horizontal bars, one for each label, the value written beside it.

    Args:
        scores: float [K]; or a Series, whose index gives the labels; or Estimates, whose intervals are drawn.
        labels: K names; for a Series: those of its index in the order wanted, or others in their place.
        highlight: names drawn in the second colour (the true ones, say).
        label: of the axis.
        sort: largest on top.
        line: a reference value to mark.
        ax: where to draw.
    """
    if isinstance(scores, pd.Series):
        scores, labels = _labelled(scores, labels, "labels", 0)
    scores = list(scores)
    labels = list(map(str, range(len(scores))) if labels is None else labels)
    if len(labels) != len(scores):
        raise ValueError(f"{len(labels)} labels for {len(scores)} scores: give one for each.")
    values = np.array([float(score) for score in scores])
    order = np.argsort(-values, kind="stable") if sort else np.arange(len(values))
    ax = _ax(ax, (6, 0.8 + 0.32 * len(values)))
    blue, orange = sns.color_palette(PALETTE)[:2]
    spread = max(values.max(initial=0), 0) - min(values.min(initial=0), 0) or 1
    for place, k in enumerate(order):
        ax.barh(place, values[k], color=orange if labels[k] in highlight else blue, height=0.7)
        end = values[k]
        if hasattr(scores[k], "low"):
            low, high = scores[k].low, scores[k].high
            ax.plot([low, high], [place, place], color="black", lw=1.5)
            end = high if values[k] >= 0 else low
        side = 1 if values[k] >= 0 else -1
        ax.text(
            end + side * 0.015 * spread,
            place,
            f"{values[k]:.2f}",
            va="center",
            ha="left" if side > 0 else "right",
            fontsize=9,
        )
    ax.set_yticks(range(len(order)), [printable(labels[k]) for k in order])
    _literal(*ax.get_yticklabels())
    ax.invert_yaxis()
    low, high = ax.get_xlim()
    ax.set_xlim(low - 0.1 * spread * (values.min(initial=0) < 0), high + 0.1 * spread * (values.max(initial=0) > 0))
    if values.min(initial=0) < 0:
        ax.axvline(0, color="black", lw=0.8)
    if line is not None:
        ax.axvline(line, color="black", lw=1, ls="--")
    ax.set(xlabel=label, ylabel="")
    sns.despine(ax=ax)
    return ax


def answers(
    images: Any,
    scores: pd.DataFrame,
    titles: Sequence[str] | None = None,
    *,
    truth: Sequence[str] | None = None,
    label: str = "share",
    size: float = 2.7,
) -> np.ndarray:
    """Pictures side by side, each with the bars of its scores below.

    Args:
        images: B images, as in `helpers.encode_images`; or one alone.
        scores: DataFrame [B, K] of scores between 0 and 1, e.g. of `helpers.zero_shot`; columns name the bars.
        titles: B texts above the pictures.
        truth: of each picture the column that is true, drawn in the second colour.
        label: of the bars' axis.
        size: inches of one picture.

    Returns:
        array of Axes [2, B].

    Raises:
        ValueError: another number of scores, titles or true names than of images; a true name that is no column.
    """
    images = as_image_list(images)
    for what, given in (("scores", scores), ("titles", titles), ("truth", truth)):
        if given is not None and len(given) != len(images):
            raise ValueError(f"{what}: {len(given)} for {len(images)} images. Give one for each image.")
    if unknown := [name for name in truth if name not in scores.columns] if truth is not None else []:
        raise ValueError(f"truth names {unknown[0]!r}, which is none of {', '.join(map(repr, scores.columns))}.")
    count, bars = len(images), scores.shape[1]
    wide = 0.09 * max(map(len, map(str, scores.columns)))  # the names stand once, at the left
    _, axes = plt.subplots(
        2,
        count,
        figsize=(count * size + wide, size + 0.7 + 0.3 * bars),
        height_ratios=[size, 0.4 + 0.3 * bars],
        squeeze=False,
        layout="constrained",
    )
    for k, image in enumerate(images):
        show_image(image, None if titles is None else titles[k], ax=axes[0, k])
        axes[0, k].title.set_size(13)  # also read on a chapter's card, at three fifths of its size
        names = [] if truth is None else [truth[k]]
        score_bars(scores.iloc[k], highlight=names, label=label, ax=axes[1, k])
        axes[1, k].set(xlim=(0, 1.3), xticks=[0, 0.5, 1])
        if k:
            axes[1, k].set_yticklabels([])
    return axes


def confusion(truth: Any, predicted: Any, classes: Sequence[str] | None = None, *, ax: Axes | None = None) -> Axes:
    """Confusion matrix: rows are the truth, colours its shares, numbers are counts.

    Args:
        truth, predicted: [N] labels; two Series are matched by their index, images without a truth are left out.
        classes: in which order; by default sorted. All that occur must be among them.
        ax: where to draw.
    """
    from sklearn.metrics import confusion_matrix

    labels, answers, _ = pairs(truth, predicted)
    found = sorted(set(labels) | set(answers))
    classes = found if classes is None else list(classes)
    if lacking := [name for name in found if name not in classes]:
        raise ValueError(f"classes lacks {lacking[0]!r}, which occurs. It has: {', '.join(map(repr, classes))}.")
    number = {name: k for k, name in enumerate(classes)}
    coded = [[number[label] for label in side] for side in (labels, answers)]
    counts = confusion_matrix(*coded, labels=range(len(classes)))
    shares = counts / counts.sum(1, keepdims=True).clip(1)
    ax = _ax(ax, (1.8 + 0.75 * len(classes), 1.2 + 0.6 * len(classes)))
    frame = pd.DataFrame(shares, index=_printables(classes), columns=_printables(classes))
    sns.heatmap(
        frame,
        ax=ax,
        cmap=TABLE,
        vmin=0,
        vmax=1,
        annot=counts,
        fmt="d",
        square=True,
        linewidths=0.5,
        cbar_kws={"label": "share of the row"},
    )
    ax.tick_params(length=0)
    plt.setp(ax.get_xticklabels(), rotation=40, ha="right", rotation_mode="anchor")
    plt.setp(ax.get_yticklabels(), rotation=0)
    ax.set(xlabel="predicted", ylabel="truth")
    _literal(*ax.get_xticklabels(), *ax.get_yticklabels())
    return ax


def reliability(table: pd.DataFrame, *, label: str | None = None, color: int = 0, ax: Axes | None = None) -> Axes:
    """Reliability diagram from `helpers.metrics.reliability_table`, with its intervals.

    The dots' areas grow with the number of cases.
    """
    new = ax is None
    ax = _ax(ax, (4, 4))
    if new:
        ax.plot([0, 1], [0, 1], color="grey", lw=1, ls="--", label="perfectly calibrated")
    colour = sns.color_palette(PALETTE)[color]
    ax.plot(
        table["predicted"], table["observed"], color=colour, lw=1.5, label=None if label is None else printable(label)
    )
    if "estimate" in table:
        low, high = ([getattr(e, end) for e in table["estimate"]] for end in ("low", "high"))
        ax.vlines(table["predicted"], low, high, color=colour, lw=1.2, alpha=0.6)
    ax.scatter(
        table["predicted"],
        table["observed"],
        s=20 + 180 * table["count"] / table["count"].max(),
        color=colour,
        alpha=0.8,
        edgecolor="white",
        zorder=3,
    )
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability", ylabel="observed share")
    ax.set_aspect("equal")
    if new or label:
        _literal(*ax.legend(loc="upper left", fontsize=9).get_texts())
    sns.despine(ax=ax)
    return ax


def estimates(table: pd.DataFrame, *, label: str = "AUROC", line: float | None = None, ax: Axes | None = None) -> Axes:
    """Estimates with their intervals as dots and lines: rows are places, columns are colours.

    Args:
        table: DataFrame of `Estimate`s.
        label: of the axis.
        line: a reference value, say 0.5 for chance.
        ax: where to draw.
    """
    ax = _ax(ax, (6.5, 1.0 + (0.22 * len(table.columns) + 0.15) * len(table)))
    colors, count = sns.color_palette(PALETTE), len(table.columns)
    for c, column in enumerate(table.columns):
        for r, estimate in enumerate(table[column]):
            y = r + (c - (count - 1) / 2) * 0.7 / count
            ax.plot([estimate.low, estimate.high], [y, y], color=colors[c % len(colors)], lw=2, alpha=0.7)
            ax.plot(
                estimate.value, y, "o", color=colors[c % len(colors)], ms=6, label=printable(column) if r == 0 else None
            )
    ax.set_yticks(range(len(table)), [printable(row) for row in table.index])
    _literal(*ax.get_yticklabels())
    ax.set_ylim(len(table) - 0.5, -0.5)
    if line is not None:
        ax.axvline(line, color="black", lw=1, ls="--")
    ax.grid(axis="x", alpha=0.4)
    ax.set(xlabel=label)
    if count > 1:
        _literal(*ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9).get_texts())
    sns.despine(ax=ax)
    return ax


def familiarity(known: Any, others: dict[str, float], *, line: float | None = None, ax: Axes | None = None) -> Axes:
    """How near known pictures are to each other (dots), and how near some others are to them (named signs).

    Args:
        known: float [N], of each known picture the cosine with its nearest other one.
        others: name -> cosine with the nearest known picture.
        line: a value to mark.
        ax: where to draw.
    """
    known = _values(known)
    ax = _ax(ax, (6.6, 2.4))
    heights = np.random.default_rng(SEED).uniform(-0.3, 0.3, len(known))  # so that the dots do not hide each other
    ax.scatter(known, heights, s=22, alpha=0.6, label="known pictures")
    signs = ["s", "^", "D", "X", "P", "v"]
    for k, (name, value) in enumerate(others.items()):
        sign = signs[k % len(signs)]
        ax.scatter(float(value), 0, s=110, marker=sign, edgecolor="black", zorder=3, label=printable(name))
    if line is not None:
        ax.axvline(line, color="black", ls="--", lw=1)
    ax.set(yticks=[], ylim=(-0.6, 0.6), xlabel="cosine with the nearest known picture")
    _literal(*ax.legend(loc="upper left", bbox_to_anchor=(1, 1)).get_texts())
    sns.despine(ax=ax, left=True)
    return ax


def curves(x: Any, lines: dict[str, np.ndarray], *, xlabel: str = "", ylabel: str = "", ax: Axes | None = None) -> Axes:
    """Lines over a shared axis; a line [B, S] is drawn as its mean with a 95% band of the mean.

    Args:
        x: float [S].
        lines: name -> float [S] or [B, S].
        xlabel, ylabel: labels.
        ax: where to draw.
    """
    ax = _ax(ax, (6, 3.6))
    for name, line in lines.items():
        if isinstance(line, pd.Series):
            lines = lines | {name: by_name(x, line, what=("x", name))[1]}
    x, colors = _values(x), sns.color_palette(PALETTE)
    styles = ["-", "--", "-.", ":"]
    for k, (name, values) in enumerate(lines.items()):
        values = np.atleast_2d(_values(values))
        mean = values.mean(0)
        ax.plot(x, mean, color=colors[k % len(colors)], ls=styles[k % 4], lw=2, label=printable(name))
        if len(values) > 1:
            half = 1.96 * values.std(0, ddof=1) / np.sqrt(len(values))
            ax.fill_between(x, mean - half, mean + half, color=colors[k % len(colors)], alpha=0.2, lw=0)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    _literal(*ax.legend(fontsize=9).get_texts())
    sns.despine(ax=ax)
    return ax


# --- the model itself -------------------------------------------------------------------------------------------------


def towers(config: Any, *, ax: Axes | None = None) -> Axes:
    """The way of a picture and of a prompt through a ConceptCLIP, with the shapes of this one.

    Args:
        config: of the model, `model.config`.
        ax: where to draw.
    """
    ax = _ax(ax, (7, 5.2))
    blue, orange, green = sns.color_palette(PALETTE)[:3]
    vision, text = config.vision_config, config.text_config
    side, width, text_width = vision.image_size, config.projection_dim, text.hidden_size
    patches = config.grid[0] * config.grid[1]
    pooling = {"mean": "mean over positions", "cls": "[CLS] position"}[config.text_pooling]
    boxes = {  # middle, lower edge, width, text, colour; heights are alike
        "pixels": (1, 5.6, 1.9, f"pixel_values\nB × 3 × {side} × {side}", None),
        "image": (1, 4.2, 1.9, f"image tower\nSigLIP, {vision.num_hidden_layers} layers", blue),
        "ids": (5, 5.6, 1.9, "input_ids\nN × T", None),
        "text": (5, 4.2, 1.9, f"text tower\nBERT, {text.num_hidden_layers} layers", orange),
        "pool": (0, 2.6, 1.85, "attention\npooling", blue),
        "image_proj": (2, 2.6, 1.85, f"image_proj\nof {width}-wide\npatch tokens", green),
        "text_proj": (4, 2.6, 1.85, f"text_proj\nof {text_width}-wide\ntext tokens", green),
        "mean": (6, 2.6, 1.85, f"{pooling},\ntext_projection", orange),
        "image_features": (0, 1, 1.85, f"image_features\nB × {width}\nunit length", None),
        "image_tokens": (2, 1, 1.85, f"image_token_\nfeatures\nB × {patches} × {width}", None),
        "text_tokens": (4, 1, 1.85, f"text_token_\nfeatures\nN × T × {width}", None),
        "text_features": (6, 1, 1.85, f"text_features\nN × {width}\nunit length", None),
    }
    for middle, low, wide, label, color in boxes.values():
        face = "white" if color is None else (*color, 0.25)
        edge = "grey" if color is None else color
        ax.add_patch(Rectangle((middle - wide / 2, low), wide, 1, facecolor=face, edgecolor=edge, lw=1.3))
        ax.text(middle, low + 0.5, label, ha="center", va="center", fontsize=10, linespacing=1.1)
    arrows = [("pixels", "image"), ("image", "pool"), ("image", "image_proj"), ("pool", "image_features")]
    arrows += [("ids", "text"), ("text", "mean"), ("text", "text_proj"), ("mean", "text_features")]
    arrows += [("image_proj", "image_tokens"), ("text_proj", "text_tokens")]
    for start, end in arrows:
        above, below = boxes[start], boxes[end]
        style = {"arrowstyle": "-|>", "color": "black", "lw": 1}
        ax.annotate("", (below[0], below[1] + 1), (above[0], above[1]), arrowprops=style)
    brackets = (2, 4, 0.55, "concept_logit_scale, concept_logit_bias"), (0, 6, -0.25, "logit_scale, logit_bias")
    for left, right, low, label in brackets:
        ax.plot([left, left, right, right], [1, low, low, 1], color="black", lw=1)
        ax.text(3, low - 0.1, label, ha="center", va="top", fontsize=10)
    ax.set(xlim=(-1, 7), ylim=(-0.75, 6.7))
    return _bare(ax)


# --- small things -----------------------------------------------------------------------------------------------------


def _ax(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax


def _bare(ax: Axes, title: str | None = None) -> Axes:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if title is not None and str(title):
        _literal(ax.set_title(printable(title), fontsize=10))
    return ax


def _literal(*texts: Text) -> None:
    """Names of files and classes are shown as they are: two dollar signs in them make no formula."""
    for text in texts:
        text.set_parse_math(False)


def _labelled(table: Any, labels: Sequence[str] | None, what: str, axis: int) -> tuple[Any, list[str]]:
    """A table's rows (or columns) with their names: its own, its own in another order, or others in their place."""
    own = list(table.axes[axis])
    labels = own if labels is None else list(labels)
    known = set(own) & set(labels)
    if len(labels) != len(own) or (known and set(own) != set(labels)):
        raise ValueError(
            f"{what}: {len(labels)} names, {len(known)} of which are among the table's {len(own)}. Give all of its "
            "own, in the order wanted, or as many others."
        )
    return (table.reindex(labels, axis=axis) if known and labels != own else table), labels


def _printables(names: Sequence | None) -> list[str] | None:
    return None if names is None else list(map(printable, names))


def _values(array: Any) -> np.ndarray:
    if hasattr(array, "detach"):
        array = array.detach().cpu().float()
    return np.asarray(array, dtype=float)
