"""The models that are to be used: trained on every speaker, so that nothing is left to test them on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mser.checkpoint import facts_if_whole, save_model
from mser.protocol import everyone
from train.calibrate import temperatures_for_use
from train.heads import domains_of, facts_of, fit_all, loaders_of, replica_of
from train.methods import HEADS, METHODS
from train.search import loaded
from train.study import Study


def final_method(study: Study) -> str | None:
    """The method of the models for use: one of our heads, which needs no other utterances of a speaker.

    Of several one that holds all languages in one model, and of these the last.
    """
    chosen = [name for name in study.methods if METHODS[name].kind == HEADS and not METHODS[name].transductive]
    return max(chosen, key=lambda name: (METHODS[name].all_languages, chosen.index(name)), default=None)


def models_for_use(study: Study) -> dict[Path, tuple[str, ...]]:
    """The files of the models that are to be used, and the languages of each; none where no method trains one."""
    name = final_method(study)
    if name is None:
        return {}
    if METHODS[name].all_languages:
        return {study.folder / "model.safetensors": study.languages}
    return {study.folder / f"model-{language}.safetensors": (language,) for language in study.languages}


def final_models(study: Study) -> list[Path]:
    """Trains the models that are to be used: every speaker, the first seed; there is no test for them.

    One of all languages where the method has it so, else one for each; a damaged one is trained again. Models of a
    method that the run had before are removed, and what was exported from them: whoever uses the folder would not know
    which of them answers.
    """
    name, paths = final_method(study), models_for_use(study)
    if name is None:
        return []
    for path, languages in paths.items():
        facts = facts_if_whole(path) or {}
        # A run that was given other methods since has another one for use; early versions did not tell the stores.
        if facts.get("method") != name or "stores" not in facts:
            _final_model(study, name, languages, path)
            for language in languages:
                (study.folder / f"head-{language}.onnx").unlink(missing_ok=True)
    for path in set(study.folder.glob("model*.safetensors")) - set(paths):
        path.unlink()
    return list(paths)


def _final_model(study: Study, name: str, languages: Sequence[str], path: Path) -> None:
    method, inputs = METHODS[name], study.inputs
    datas = [loaded(inputs, language) for language in languages]
    folds = [everyone(data.utterances) for data in datas]
    domains = domains_of(inputs, method, datas, folds)
    replica = replica_of(inputs, method, datas, folds, domains, study.seeds[0])
    (fitted,) = fit_all(inputs, method, datas, loaders_of(inputs, datas, method), [replica])
    facts = {"best_epoch": fitted.best, "diverged": fitted.diverged}
    temperature = temperatures_for_use(inputs, name, datas, folds, study.seeds[0])
    facts = facts_of(inputs, name, datas, study.seeds[0], temperature=temperature, **facts)
    save_model(path, replica.model, facts)
