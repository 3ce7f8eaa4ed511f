"""The sections of the page, each from its part of the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mser.inspect.clouds import COLOURINGS
from mser.inspect.pictures import layer_picture, map_picture, map_texts, probe_picture, similarity_picture
from mser.inspect.tables import left_out, statistics_troubles
from mser.inspect.wanted import METHODS, TARGETS
from mser.markup import Markup, bullets, details, element, paragraph, section, table

Results = Mapping[str, Any]
#: Rejected files that are listed; the rest is counted.
REJECTED_SHOWN = 200
#: What a reader must know of each section.
LEADS = {
    "stores": "Utterances are those of the manifest whose very recordings the store holds. Health is read off the "
    "shards' heads and their checksums; make verify checks the states too.",
    "statistics": "Of each layer over all frames; where a store keeps none, over its utterances' means. The effective "
    "rank is the exponential of the entropy of the covariance's eigenvalues, each as a share of their sum (Roy & "
    "Vetterli 2007): how many directions the states fill. Dead features vary by less than 0.00001, which training "
    "takes for constant. Means and deviations are averages over the features.",
    "similarity": "Linear centred kernel alignment (Kornblith et al. 2019) of the pooled means: 1 where two layers lay "
    "out the utterances alike up to rotation and scale. Columns are in the order of the rows. Where there are not many "
    "more utterances than features, all values are too high.",
    "probes": "Logistic regression on each layer's pooled means; UAR in percent, the darker the further from chance. A "
    "layer that tells the speaker or the sentence well may tell the emotion by them, where speakers or sentences carry "
    "one emotion: see the audit.",
    "map": "Each point is an utterance; what it is shows where the pointer is, and a click on the legend hides a "
    "group. Features are standardised over the utterances shown. t-SNE and UMAP show who is near whom: distances "
    "between groups, their sizes and the axes mean nothing.",
    "audit": "What the folds of speakers leak, and what the labels are tied to, checked against the manifest.",
}


def stores(results: Results) -> Markup:
    columns = ("corpus", "upstream", "revision", "utterances", "hours", "layers x features", "holds", "MB", "health")
    rows = [
        [
            f"{one['corpus']} ({one['language']})",
            one["upstream"],
            one["revision"] or "–",
            f"{one['covered']} of {one['total']}",
            f"{one['seconds'] / 3600:.2f}",
            f"{_numbers(one['layer_numbers'])} x {one['dim']}",
            f"{', '.join(one['keep'])} ({one['dtype']})",
            f"{one['size_bytes'] / 1e6:.1f}",
            _health(one),
        ]
        for one in results["stores"]
    ]
    body = table(columns, rows, css="wide") if rows else _empty("No store of these corpora is cached.")
    return section("stores", "Stores", body, _warnings(left_out(results)), paragraph(LEADS["stores"], css="small"))


def statistics(results: Results) -> Markup:
    found = [one for one in results["statistics"] if not one["trouble"]]
    children = [paragraph(LEADS["statistics"], css="lead"), _warnings(statistics_troubles(results["statistics"]))]
    if found:
        pictures = [layer_picture(found, "rank", "effective rank"),
                    layer_picture(found, "norm", "mean length of a state", logarithmic=True)]  # fmt: skip
        children.append(element("div", *pictures, css="pair"))
    columns = ["layer", "mean", "deviation", "largest deviation", "mean length", "effective rank", "dead features"]
    for one in found:
        rows = [
            [
                layer["layer"],
                *(f"{layer[key]:.4g}" for key in ("mean", "deviation", "largest_deviation", "norm")),
                f"{layer['rank']:.1f} of {one['dim']}",
                f"{100 * layer['dead']:.1f} %",
            ]
            for layer in one["layers"]
        ]
        title = f"{one['corpus']} x {one['upstream']}: {one['count']:,} {one['over']}"
        children.append(details(title, table(columns, rows)))
    return section("statistics", "Statistics of layers", *children)


def similarity(results: Results) -> Markup:
    children = [paragraph(LEADS["similarity"], css="lead")]
    for one in results["similarity"]:
        children.append(element("h3", f"{one['language']}: {one['utterances']} utterances that every upstream holds"))
        layers = [(upstream, number) for upstream, number in one["layers"]]
        children.append(_empty(one["trouble"]) if one["trouble"] else similarity_picture(layers, one["values"]))
    return section("similarity", "Similarity of layers", *children)


def probes(results: Results) -> Markup:
    children = [paragraph(LEADS["probes"], css="lead")]
    for language in results["languages"]:
        found = [one for one in results["probes"] if one["language"] == language]
        children.append(element("h3", language))
        children += _probes_of(found) if found else [_empty("no store of this language can be used")]
    return section("probes", "What layers tell", *children)


def _probes_of(found: Sequence[Results]) -> list[Markup]:
    """The heat map of a language, the test of the chosen layers, what was not asked, and all numbers."""
    layers, rows = [], []
    for one in found:
        for index, number in enumerate(one["layers"]):
            layers.append((one["upstream"], number))
            rows.append({each["target"]: each["uar"][index] for each in one["targets"] if each["uar"] is not None})
    every = [(one["upstream"], each) for one in found for each in one["targets"]]
    asked = [(upstream, each) for upstream, each in every if each["uar"] is not None]
    chances = {name: each["chance"] for name in TARGETS for _, each in asked if each["target"] == name}
    children = [probe_picture(layers, rows, chances)] if chances else []
    tested = [_tested(one) for one in found if one["tested"]]
    if tested:
        columns = ["upstream", "layers that dev speakers chose (folds)", "UAR on dev speakers", "UAR on test speakers",
                   "test over"]  # fmt: skip
        children.append(table(columns, tested, css="why"))
    troubles = [f"{each['target']} ({upstream}): {each['trouble']}." for upstream, each in every if each["trouble"]]
    if troubles:
        children += [paragraph("Not asked:", css="small"), bullets(troubles, css="small")]
    over = [
        [f"{each['target']} ({upstream})", each["utterances"], each["speakers"], each["classes"], each["split"]]
        for upstream, each in asked
    ]
    columns = ["probe", "utterances", "speakers", "classes", "how training and test are parted"]
    children.append(details("What each number is over", table(columns, over, css="why")))
    numbers = [
        [f"{upstream} {number}", *(f"{row[target]:.1f}" if target in row else "–" for target in chances)]
        for (upstream, number), row in zip(layers, rows, strict=True)
    ]
    return [*children, details("The numbers as a table", table(["layer", *chances], numbers))]


def _tested(one: Results) -> list[object]:
    tested = one["tested"]
    chosen = ", ".join(f"{number} ({folds})" for number, folds in tested["chosen"])
    over = f"{tested['utterances']} utterances, {tested['emotions']} emotions, {tested['folds']} folds"
    return [one["upstream"], chosen, f"{tested['dev_uar']:.1f}", element("strong", f"{tested['uar']:.1f}"), over]


def maps(results: Results) -> Markup:
    children = [paragraph(LEADS["map"], css="lead")]
    for cloud in results["map"]:
        children.append(element("h3", _capital(cloud["title"])))
        if cloud["trouble"]:
            children.append(_empty(cloud["trouble"]))
            continue
        count = len(cloud["labels"]["utterance_id"])
        children.append(paragraph(f"{count} utterances. {cloud['note']}"))
        drawn = [map_texts(cloud["labels"])]
        for one in cloud["maps"]:
            drawn.append(element("h4", METHODS[one["method"]]))
            if one["trouble"]:
                drawn.append(_empty(f"{one['trouble']}."))
            else:
                drawn.append(paragraph(f"{_capital(one['note'])}.", css="small"))
                drawn.append(map_picture(one["points"], cloud["labels"], COLOURINGS))
        children.append(element("div", *drawn, css="cloud"))
    if not results["map"]:
        children.append(_empty("nothing is cached that could be mapped"))
    return section("map", "Maps of utterances", *children)


def rejected(results: Results) -> Markup:
    found = results["rejected"]
    if not found:
        return section("rejected", "Rejected files", paragraph("No file of these corpora was rejected."))
    counts = Counter(one["reason"] for one in found)
    reasons = table(["reason", "files"], counts.most_common(20), css="why")
    rows = [[one["path"] or "–", one["corpus"], one["reason"]] for one in found[:REJECTED_SHOWN]]
    title = f"{len(found)} files"
    if len(rows) < len(found):
        title += f", the first {REJECTED_SHOWN}; all of them are in manifests/"
    return section(
        "rejected", "Rejected files", reasons, details(title, table(["file", "corpus", "reason"], rows, css="why"))
    )


def audits(results: Results) -> Markup:
    children = [paragraph(LEADS["audit"], css="lead")]
    for one in results["audit"]:
        children.append(element("h3", f"{one['language']} ({one['corpus']})"))
        if one["trouble"]:
            children.append(_empty(one["trouble"]))
            continue
        said = "LEAKY" if one["leaky"] else "no speaker and no recording crosses a fold"
        folds = f"{one['protocol']}, {one['folds']} test folds, {one['speakers']} speakers"
        text = f"{_capital(folds)}, {one['utterances']} utterances; {said}."
        children += [paragraph(text, css="leak" if one["leaky"] else ""), bullets(one["messages"])]
    return section("audit", "Leakage audit", *children)


def seconds(results: Results) -> Markup:
    said = ", ".join(f"{name} {value:.1f} s" for name, value in results["seconds"].items())
    return paragraph(f"Took: {said}; statistics run beside the others.", css="small")


def _health(one: Results) -> object:
    return element("span", one["health"], css="damaged") if one["trouble"] else one["health"]


def _warnings(troubles: Sequence[str]) -> Markup:
    return element("div", bullets([f"{one}." for one in troubles]), css="warning") if troubles else Markup("")


def _empty(text: str) -> Markup:
    return paragraph(_capital(text), css="empty")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _numbers(numbers: Sequence[int]) -> str:
    """How many layers, and which; a run of them by its ends."""
    run = len(numbers) > 2 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    which = f"{numbers[0]}–{numbers[-1]}" if run else ", ".join(map(str, numbers))
    return f"{len(numbers)} ({which})" if numbers else "–"
