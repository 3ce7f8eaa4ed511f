"""Everything ``mser inspect`` shows, as numbers: what the page draws and the JSON beside it holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from threadpoolctl import threadpool_limits

from mser import __version__
from mser.config import Workspace
from mser.cores import usable_cores
from mser.errors import ConfigError
from mser.inspect.background import Background, beside
from mser.inspect.clouds import Cloud, Layer, best_layer, layer_cloud, run_clouds
from mser.inspect.languages import Language, read_language
from mser.inspect.listing import StoreSummary, open_stores
from mser.inspect.maps import make_map
from mser.inspect.parts import audit_part, map_part, probes_part, rejected_part, similarity_part, statistics_part
from mser.inspect.probes import Probe, rounds
from mser.inspect.progress import Advance, Meter
from mser.inspect.wanted import TARGETS, Wanted
from mser.manifest import Manifest, read_manifests
from mser.store import Store

SCHEMA_VERSION = 1
#: How many folds of a probe a map takes the time of.
MAP_UNITS = 20
EVERYTHING = Wanted()


def survey(
    workspace: Workspace, languages: Sequence[str] = (), wanted: Wanted = EVERYTHING, advance: Advance | None = None
) -> dict[str, Any]:
    """Looks into the stores of the languages; what cannot be shown is said where it would stand.

    Statistics and t-SNE run beside the rest, in a second thread.

    Args:
        languages: all with a manifest if empty.
        advance: told of the progress.

    Returns:
        JSON-able: a part for each section, and the seconds that each took.

    Raises:
        ManifestError: a language has no manifest, or it is damaged.
        ConfigError, RunError: the layer, or the run, that is to be mapped. Where more than the run is asked for, what
            keeps it from being mapped is said in its place, unless there is no such run.
    """
    manifests = read_manifests(workspace, languages)
    names = list(languages) or sorted({manifest.language for manifest in manifests})
    meter = Meter(advance)
    with beside() as background, threadpool_limits(1, "blas"):
        try:
            found = _Survey(workspace, manifests, names, wanted, meter, background).parts()
        finally:
            meter.stopped = True
    return {
        "schema_version": SCHEMA_VERSION,
        "mser_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "languages": names,
        **found,
        "seconds": {name: round(value, 2) for name, value in meter.seconds.items()},
    }


@dataclass(frozen=True)
class _Survey:
    workspace: Workspace
    manifests: Sequence[Manifest]
    names: Sequence[str]
    wanted: Wanted
    meter: Meter
    background: Background

    def parts(self) -> dict[str, Any]:
        wants = set(self.wanted.sections)
        with self.meter.timed("stores"):
            opened = self._opened()
        found: dict[str, Any] = {
            "stores": [{**asdict(one), "health": one.health, "left_out": list(one.left_out)} for one, _ in opened]
        }
        statistics: Future[list[dict[str, Any]]] | None = None
        if "statistics" in wants:
            usable = [(one, store) for one, store in opened if store is not None]
            self.meter.expect(sum(one.layers * len(store.shards) for one, store in usable))
            statistics = self.background.submit(lambda: self._statistics(usable))
        if wants & {"similarity", "probes", "map"}:
            with self.meter.timed("stores"):
                languages = [read_language(name, self.manifests, opened) for name in self.names]
            found["troubles"] = [trouble for language in languages for trouble in language.troubles]
            if "similarity" in wants:
                with self.meter.timed("similarity"):
                    found["similarity"] = [similarity_part(language) for language in languages]
            found |= self._probes_and_maps(languages)
        if "rejected" in wants:
            found["rejected"] = [entry for one in self.manifests for entry in rejected_part(self.workspace, one)]
        if "audit" in wants:
            with self.meter.timed("audit"):
                found["audit"] = [audit_part(name, self.manifests) for name in self.names]
        if statistics is not None:
            found["statistics"] = statistics.result()
        return found

    def _opened(self) -> list[tuple[StoreSummary, Store | None]]:
        """The stores of the upstreams that are looked at.

        Raises:
            ConfigError: one of them is not cached, or a layer is asked for of several.
        """
        opened = list(open_stores(self.workspace, self.manifests))
        there = sorted({summary.upstream for summary, _ in opened})
        chosen = self.wanted.upstreams or tuple(there)
        if set(chosen) - set(there):
            raise ConfigError(
                "An upstream is not cached for these languages.",
                field="UPSTREAMS",
                expected=f"some of: {' '.join(there) or 'none is cached yet'}",
                found=" ".join(chosen),
            )
        if self.wanted.layer is not None and len(chosen) != 1:
            raise ConfigError(
                "A layer can be mapped of one upstream.",
                field="layer",
                expected=f"--upstreams with one of: {' '.join(there) or 'none is cached yet'}",
                found=f"layer {self.wanted.layer} of {' '.join(chosen)}",
            )
        return [(summary, store) for summary, store in opened if summary.upstream in chosen]

    def _statistics(self, opened: Sequence[tuple[StoreSummary, Store]]) -> list[dict[str, Any]]:
        # A core is left to the main thread if that has other sections to make.
        alone = set(self.wanted.sections) <= {"stores", "statistics"}
        workers = usable_cores() if alone else max(1, usable_cores() - 1)
        with self.meter.timed("statistics"):
            return [statistics_part(one, store, self.wanted.over, workers, self.meter) for one, store in opened]

    def _probes_and_maps(self, languages: Sequence[Language]) -> dict[str, Any]:
        """Probes and maps: which layer is mapped may follow from the probes."""
        wanted, found = self.wanted, dict[str, Any]()
        probed, mapped = "probes" in wanted.sections, "map" in wanted.sections
        # A run is mapped by itself, unless a layer is asked for, or everything.
        of_layer = mapped and (not wanted.run or wanted.layer is not None or probed)
        clouds: list[Cloud] = []
        if mapped and wanted.run:
            with self.meter.timed("map"):
                # Beside other sections it is one map of several: the rest is shown without it.
                clouds = run_clouds(self.workspace, wanted.run, self.manifests, strict=not probed)
        choose = of_layer and wanted.layer is None
        targets = [name for name in TARGETS if (probed and name in wanted.targets) or (choose and name == "emotion")]
        with self.meter.timed("probes"):
            parts, emotions = self._probed(languages, targets)
        if probed:
            found["probes"] = parts
        if of_layer:
            layer = best_layer(languages, emotions) if choose else self._asked(languages)
            clouds = [*([layer_cloud(languages, layer)] if layer else []), *clouds]
        if mapped:
            with self.meter.timed("map"):
                found["map"] = self._maps(clouds)
        return found

    def _probed(
        self, languages: Sequence[Language], targets: Sequence[str]
    ) -> tuple[list[dict[str, Any]], dict[str, dict[str, Probe]]]:
        """The parts, and the probes of emotions by language and upstream."""
        pairs = [(language, upstream) for language in languages for upstream in language.cached]
        self.meter.expect(sum(rounds(language.of(language.cached[upstream]), targets) for language, upstream in pairs))
        parts: list[dict[str, Any]] = []
        emotions: dict[str, dict[str, Probe]] = {}
        for language, upstream in pairs:
            part, emotion = probes_part(language, upstream, targets, self.meter)
            parts.append(part)
            if emotion is not None:
                emotions.setdefault(language.language, {})[upstream] = emotion
        return parts, emotions

    def _asked(self, languages: Sequence[Language]) -> Layer | None:
        """The layer that was asked for, of the one upstream; None where nothing is cached.

        Raises:
            ConfigError: no language has it.
        """
        there: dict[str, set[int]] = defaultdict(set)
        for language in languages:
            for name, one in language.cached.items():
                there[name] |= set(one.layer_numbers)
        for upstream, numbers in there.items():
            if self.wanted.layer is None or self.wanted.layer not in numbers:
                raise ConfigError(
                    "No such layer is cached.",
                    field="layer",
                    expected=f"of {upstream}: {', '.join(map(str, sorted(numbers)))}",
                    found=self.wanted.layer,
                )
            return Layer(upstream, self.wanted.layer, "the layer that was asked for")
        return None

    def _maps(self, clouds: Sequence[Cloud]) -> list[dict[str, Any]]:
        asked = [() if cloud.trouble else self.wanted.methods for cloud in clouds]
        self.meter.expect(sum(map(len, asked)) * MAP_UNITS)
        late = [self._begun(cloud) if "tsne" in own else None for cloud, own in zip(clouds, asked, strict=True)]
        found = []
        for cloud, tsne, methods in zip(clouds, late, asked, strict=True):
            maps = {}
            # Those of the main thread first, while the other thread is at t-SNE.
            for method in sorted(methods, key="tsne".__eq__):
                own = tsne.result() if tsne is not None and method == "tsne" else make_map(cloud.features, method)
                maps[method] = map_part(own)
                self.meter.step(MAP_UNITS)
            entry = {"title": cloud.title, "note": cloud.note, "labels": cloud.labels(), "trouble": cloud.trouble}
            found.append({**entry, "maps": [maps[method] for method in methods]})
        return found

    def _begun(self, cloud: Cloud) -> Future[Any]:
        return self.background.submit(lambda: make_map(cloud.features, "tsne"))
