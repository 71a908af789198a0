"""Facts and examples -> one HTML page that loads nothing: no script, no link, no file beside it.

>>> page(gather(info), examples, findings=[], remark="")
'<!doctype html>...'

Every string of the data goes through `escape`; only `Html`, made here, is markup.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws_model import card_examples
from kws_model.card_examples import Example
from kws_model.card_html import (
    STYLE,
    Html,
    Number,
    escape,
    histogram,
    percent,
    table,
    tag,
)
from kws_model.data_facts import FLAGS, Facts, Group, Repeats
from kws_model.feature_spec import FeatureSpec

LABELS_SHOWN, FORMATS_SHOWN = 400, 12
FLOOR_DBFS = -96  # of the histograms


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the reader must know; leaks and wrong labels are serious: no accuracy can be trusted."""

    text: str
    is_serious: bool = False


def page(
    facts: Facts, examples: Sequence[Example], *, findings: Sequence[Finding], remark: str
) -> str:
    """The whole card; `remark` says why there is less to hear than there might be."""
    info = facts.info
    title = f"{info.name}: data card"
    parts = (
        _header(facts),
        _findings(findings),
        _section("Splits and labels", _labels(facts)),
        _section("Speakers", _speakers(facts)),
        _section("Identical recordings", _identical(facts)),
        _section("Look and listen", *_examples(examples, info.spec, remark)),
        _section("Lengths, levels, formats", _histograms(facts), _formats(facts)),
        _section("Mended, rejected, excluded", _mended(facts), _reasons(facts)),
        _section("How it was made", _settings(facts)),
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        # Should markup of the data ever get through, nothing of it runs or loads.
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        "img-src data:; media-src data:; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _section(title: str, *content: object) -> Html:
    return tag("section", tag("h2", title), *content)


# ---------------------------------------------------------------------------------------- sections


def _header(facts: Facts) -> Html:
    info = facts.info
    counted = tag(
        "p",
        f"{equation(facts)}; manifest, shards and account agree.",
    )
    hours = facts.seconds.sum() / 3600
    tiles = (
        (facts.made, "clips made"),
        (facts.total("rejected"), "rejected"),
        (facts.total("excluded"), "excluded"),
        (len(info.labels), "labels"),
        (facts.speakers.total, "speakers known"),
        (f"{hours:,.1f} h" if hours >= 1 else f"{hours * 60:,.1f} min", "of recordings"),
        (megabytes(facts), f"in {len(info.shards):,} shards"),
    )
    boxes = (tag("div", tag("b", number), tag("span", what)) for number, what in tiles)
    return tag(
        "header",
        tag("h1", info.name, Html(" "), tag("small", "data card")),
        tag("p", tag("code", info.folder.resolve()), cls="path"),
        tag(
            "p", describe(info.spec), Html(" &middot; fingerprint "), tag("code", info.fingerprint)
        ),
        tag("div", *boxes, cls="tiles"),
        counted,
    )


def equation(facts: Facts) -> str:
    """What was found and what became of it."""
    generated = f" + {facts.generated:,} generated" if facts.generated else ""
    return (
        f"{facts.found:,} found{generated} = {facts.made:,} made + "
        f"{facts.total('rejected'):,} rejected + {facts.total('excluded'):,} excluded"
    )


def megabytes(facts: Facts) -> str:
    """The size of the shards."""
    size = sum(shard.num_bytes for shard in facts.info.shards) / 1e6
    return f"{size / 1000:,.1f} GB" if size >= 10_000 else f"{size:,.1f} MB"


def describe(spec: FeatureSpec) -> str:
    """A spec in a few words."""
    shape = ("any length", *spec.inner_shape) if spec.clip_ms is None else spec.shape
    return f"{spec.feature} {spec.dtype} {' x '.join(map(str, shape))}"


def _findings(findings: Sequence[Finding]) -> Html:
    items = [tag("li", f.text, cls="leak" if f.is_serious else "note") for f in findings]
    if not any(finding.is_serious for finding in findings):
        text = (
            "No leak found: no known speaker and no identical recording is in two splits, "
            "and identical recordings have one label."
        )
        items.insert(0, tag("li", text, cls="ok"))
    return tag("ul", *items, cls="warnings")


def _labels(facts: Facts) -> Html:
    totals, names = facts.clips.sum(axis=1), facts.info.labels
    shown = range(min(len(names), LABELS_SHOWN))
    rows = [
        (
            names[i], *facts.clips[i], totals[i], percent(totals[i], facts.made),
            _bar(facts.clips[i], int(totals.max())),
        )
        for i in shown
    ]  # fmt: skip
    sums = facts.clips.sum(axis=0)
    rows.append((tag("b", "all"), *sums, facts.made, percent(facts.made, facts.made), ""))
    rows.append(("share", *(percent(n, facts.made) for n in sums), percent(1, 1), "", ""))
    keys = (tag("span", split, cls=f"key s{k}") for k, split in enumerate(facts.splits))
    head = ("label", *facts.splits, "all", "share", Html("".join(keys)))
    hidden = len(names) - len(shown)
    more = tag("p", f"and {hidden:,} labels more, in the manifest") if hidden else ""
    return Html(table(head, rows) + escape(more))


def _bar(clips: NDArray[Any], longest: int) -> Html:
    """A label's clips, its splits one after the other."""
    pieces = (
        f'<i class="s{k}" style="width:{100 * count / max(longest, 1):.2f}%"></i>'
        for k, count in enumerate(clips)
    )
    return Html(f'<div class="bar">{"".join(pieces)}</div>')


def _speakers(facts: Facts) -> Html:
    speakers = facts.speakers
    rows = [
        ("known speakers", *speakers.distinct),
        ("clips of known speakers", *speakers.known_clips),
        ("clips whose speaker is unknown", *speakers.unknown_clips),
        ("clips of speakers who are in other splits too", *speakers.crossing_clips),
    ]
    parts = [table(("", *facts.splits), rows)]
    if speakers.worst:
        text = f"{speakers.num_crossing:,} speakers are in more than one split; the most heard:"
        worst = [(name, *counts) for name, counts in speakers.worst]
        parts += [tag("p", text), table(("speaker", *facts.splits), worst)]
    return Html("".join(parts))


def _identical(facts: Facts) -> Html:
    same, cut_up = facts.identical, facts.cut_up
    if not same.num_groups and not cut_up.num_groups:
        return tag("p", "No two clips are of the same bytes.")
    rows = (
        ("different files, the same bytes", same.num_groups, same.num_clips),
        ("… in more than one split", same.split_groups, same.split_clips),
        ("… with more than one label", same.label_groups, same.label_clips),
        ("several clips of one file", cut_up.num_groups, cut_up.num_clips),
        ("… in more than one split", cut_up.split_groups, cut_up.split_clips),
    )
    parts = [table(("", "groups", "clips"), rows)]
    for title, repeats in (("Same bytes", same), ("Same file", cut_up)):
        if repeats.worst:
            parts.append(_worst(title, repeats))
    return Html("".join(parts))


def _worst(title: str, repeats: Repeats) -> Html:
    text = f"{title}, groups shown: {len(repeats.worst):,} of {repeats.num_groups:,}, worst first"
    return Html(tag("p", text) + tag("div", *map(_group, repeats.worst), cls="groups"))


def _group(group: Group) -> Html:
    marks = [f"{group.num_clips:,} clips"]
    marks += [f"{group.num_splits} splits"] if group.num_splits > 1 else []
    marks += [f"{group.num_labels} labels"] if group.num_labels > 1 else []
    files = (
        tag("li", tag("span", f"{file['split']}, {file['label']}"), " ", tag("code", file["path"]))
        for file in group.files
    )
    is_leak = group.num_splits > 1 or group.num_labels > 1
    return tag("div", tag("b", ", ".join(marks)), tag("ul", *files), cls="leak" if is_leak else "")


def _formats(facts: Facts) -> Html:
    tables, whole = [], facts.recorded.sum()
    for column, counts in facts.formats.items():
        rows = [(name, count, percent(count, whole)) for name, count in counts]
        others = sum(count for _, count in counts[FORMATS_SHOWN:])
        if others:
            rows[FORMATS_SHOWN:] = [("others", others, percent(others, whole))]
        tables.append(table((_FORMAT_TITLES[column], "clips", "share"), rows))
    return tag("div", *tables, cls="columns")


_FORMAT_TITLES = {
    "sample_rate_hz": "sample rate, Hz",
    "num_channels": "channels",
    "container": "container",
    "encoding": "encoding",
}


def _mended(facts: Facts) -> Html:
    clips, rows = facts.recorded, []
    for flag, counts in facts.mended.items():
        shares = [
            cell
            for count, whole in zip(counts, clips, strict=True)
            for cell in (count, percent(count, whole))
        ]
        total = counts.sum()
        rows.append((flag, FLAGS[flag], *shares, total, percent(total, clips.sum())))
    head = ["mended", ""]
    for split in (*facts.splits, "all"):
        head += [split, "%"]
    return table(head, rows)


def _reasons(facts: Facts) -> Html:
    if not facts.reasons:
        return tag("p", "Nothing was rejected or excluded.")
    rows = []
    for reason in facts.reasons:
        first = (
            tag("li", tag("code", row["path"]), " ", tag("span", row["detail"]))
            for row in reason.examples
        )
        rows.append((reason.status, reason.reason, reason.count, tag("ul", *first)))
    return table(("", "reason", "recordings", "the first of them"), rows)


def _settings(facts: Facts) -> Html:
    info = facts.info
    preparation = [(name, _value(value)) for name, value in _flat(info.preparation)]
    settings = {**info.spec.to_dict(), "fingerprint": info.spec.fingerprint}
    spec = [(name, _value(value)) for name, value in settings.items()]
    tables = (table(("prepared with", ""), preparation), table(("feature", ""), spec))
    return tag("div", *tables, cls="columns")


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield prefix + name, value


def _value(value: object) -> Html:
    return tag("code", f"{value:g}" if isinstance(value, float) else str(value))


# -------------------------------------------------------------------------------------- histograms


def _histograms(facts: Facts) -> Html:
    levels = np.arange(FLOOR_DBFS, max(3, 3 * np.ceil(_top(facts) / 3) + 1), 3.0)
    silent = f"{facts.silent:,} silent (no level, not drawn)"
    peaks = f"{silent}; {facts.full_scale:,} reach 0 dBFS; {facts.beyond:,} beyond"
    drawn = (
        ("Length of the recordings, s", facts.seconds, _length_edges(facts.seconds), ""),
        ("Peak, dBFS", facts.peak_dbfs, levels, peaks),
        ("RMS, dBFS", facts.rms_dbfs, levels, silent),
    )
    blocks = (histogram(title, values, edges, note) for title, values, edges, note in drawn)
    loudest: list[tuple[object, ...]] = [
        (row["path"], row["encoding"], Number(f"{row['peak_dbfs']:+.1f}")) for row in facts.loudest
    ]
    text = "Beyond 0 dBFS, which floating-point files and resampling allow; the loudest:"
    more = tag("p", text) + table(("path", "encoding", "peak, dBFS"), loudest) if loudest else ""
    return Html(tag("div", *blocks, cls="columns wide") + more)


def _top(facts: Facts) -> float:
    return float(facts.peak_dbfs.max(initial=0))


def _length_edges(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Equal steps, or equal ratios if the longest is 20 times the median."""
    low, high = float(seconds.min(initial=1)), float(seconds.max(initial=1e-3))
    if len(seconds) and high > 20 * np.median(seconds):
        return np.geomspace(max(low, 1e-3), high, 41)
    return np.linspace(0, high, 41)


# ---------------------------------------------------------------------------------------- examples


def _examples(examples: Sequence[Example], spec: FeatureSpec, remark: str) -> tuple[Html, ...]:
    if not examples:
        return (tag("p", "No examples were asked for."),)
    return tag("p", card_examples.legend(spec), remark), card_examples.gallery(examples, spec)
