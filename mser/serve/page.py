"""The page itself: what stands where, and which request each action makes. Nothing else imports Gradio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from mser.serve import view
from mser.serve.service import Service, Shown

#: Pages whose clips are remembered; of more that are open at once, the oldest have to be given theirs again.
OPEN_PAGES = 32
SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
FIXED_FONTS = ("ui-monospace", "Menlo", "Consolas", "monospace")


def application(service: Service) -> FastAPI:
    """The page as an ASGI application, ready to be served."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    return gr.mount_gradio_app(
        app,
        _page(service),
        path="/",
        footer_links=[],
        run_history=False,
        max_file_size=service.limits.size,
        show_error=False,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=_theme(),
        css=view.STYLE,
    )


def _theme() -> gr.themes.Base:
    """Fonts of the reader's machine; small print that can be read on white and on black."""
    quiet = {"body_text_color_subdued": "*neutral_600", "body_text_color_subdued_dark": "*neutral_300"}
    info = {"block_info_text_color": "*neutral_600", "block_info_text_color_dark": "*neutral_300"}
    return gr.themes.Default(font=SYSTEM_FONTS, font_mono=FIXED_FONTS).set(**quiet, **info)


@dataclass(frozen=True, eq=False)
class _Parts:
    """What of the page changes.

    Attributes:
        remembered: of the clip that is open. message, clip, judged, over_time, explained: from top to bottom.
        choices: the row of ``language`` and ``place``, of the answer that is explained.
    """

    remembered: gr.State
    run: gr.Dropdown
    languages: gr.CheckboxGroup
    audio: gr.Audio
    message: gr.HTML
    clip: gr.HTML
    judged: gr.HTML
    over_time: gr.HTML
    choices: gr.Row
    language: gr.Dropdown
    place: gr.Dropdown
    explained: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What :meth:`updates` changes."""
        return [
            self.remembered, self.message, self.clip, self.judged, self.over_time, self.explained, self.language,
            self.place, self.choices,
        ]  # fmt: skip

    def updates(self, shown: Shown) -> dict[Any, Any]:
        """Each part with what it shows now."""
        places = list(zip(shown.parts, range(len(shown.parts)), strict=True))
        several = len(shown.languages) > 1
        return {
            self.remembered: shown,
            self.message: gr.HTML(shown.message, visible=bool(shown.message)),
            self.clip: shown.clip,
            self.judged: shown.judged,
            self.over_time: gr.HTML(shown.over_time, visible=bool(shown.over_time)),
            self.explained: shown.explained,
            self.language: gr.Dropdown(list(shown.languages), value=shown.language, visible=several),
            self.choices: gr.Row(visible=bool(places) or several),
            self.place: gr.Dropdown(places, value=shown.place, visible=bool(places)),
        }


def _page(service: Service) -> gr.Blocks:
    with gr.Blocks(title="mser", analytics_enabled=False) as page:
        page.state_session_capacity = OPEN_PAGES
        # A mounted page does not say so by itself; until it has, Gradio takes any file of this machine for an upload.
        page.has_launched = True
        _wire(page, service, _laid_out(service))
    return page


def _laid_out(service: Service) -> _Parts:
    """The parts in their places, before there is a clip."""
    limits = service.limits
    chosen, first = next(iter(service.runs.items()))
    gr.HTML(view.heading(), padding=False)
    remembered = gr.State(Shown())
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            run = gr.Dropdown(
                list(service.runs),
                value=chosen,
                label="Run",
                info=first.made_of,
                filterable=False,
                interactive=len(service.runs) > 1,
            )
            languages = gr.CheckboxGroup(
                list(first.languages), value=list(first.languages), label="Languages whose heads judge"
            )
            audio = gr.Audio(
                sources=["upload", "microphone"],
                type="filepath",
                label="Clip",
                editable=False,
                buttons=[],
                elem_id="clip",
            )
            gr.HTML(view.limits(limits.megabytes, limits.seconds), padding=False)
        with gr.Column(scale=3, min_width=320):
            message = gr.HTML(elem_id="message", padding=False, visible=False)
            clip = gr.HTML(elem_id="heard", padding=False)
            judged = gr.HTML(elem_id="judged", padding=False)
    over_time = gr.HTML(elem_id="over-time", padding=False, visible=False)
    with gr.Row(visible=False) as choices:
        language = gr.Dropdown([], label="Explained: the answer of", visible=False, filterable=False)
        place = gr.Dropdown([], label="Explained: the part", visible=False, filterable=False)
    explained = gr.HTML(elem_id="explained", padding=False)
    return _Parts(
        remembered, run, languages, audio, message, clip, judged, over_time, choices, language, place, explained
    )


def _wire(page: gr.Blocks, service: Service, parts: _Parts) -> None:
    """Which action asks for what."""

    def dropped(path: str | None, chosen: str, asked: list[str]) -> Iterator[dict[Any, Any]]:
        if path is not None:
            for shown in service.dropped(Path(path), chosen, asked):
                # The upload is gone: the page is ready for the next one.
                yield {**parts.updates(shown), parts.audio: None}

    def again(shown: Shown, chosen: str, asked: list[str]) -> Iterator[dict[Any, Any]]:
        if shown.recording is not None:
            yield from map(parts.updates, service.judged(shown.recording, chosen, asked))

    def another_run(shown: Shown, chosen: str) -> Iterator[dict[Any, Any]]:
        now = service.runs[chosen]
        known = gr.CheckboxGroup(list(now.languages), value=list(now.languages))
        yield {parts.run: gr.Dropdown(info=now.made_of), parts.languages: known}
        yield from again(shown, chosen, list(now.languages))

    def explain(shown: Shown, chosen: str, whose: str, part: int | None) -> dict[Any, Any]:
        return parts.updates(service.explained(shown, chosen, whose, part))

    def closed(request: gr.Request) -> None:
        # Gradio would keep what a closed page has shown, and the clip for an hour.
        session = page.state_holder.session_data.pop(request.session_hash, None)
        if session is not None:
            service.forget(session.state_data.get(parts.remembered._id, Shown()))

    page.unload(closed)
    remembered, run, languages, outputs = parts.remembered, parts.run, parts.languages, parts.outputs
    # What is asked by another program than the page is refused, and one request waits for the other.
    common: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "clips"}
    slow: dict[str, Any] = {**common, "show_progress": "minimal", "show_progress_on": parts.judged}
    uploads = [parts.audio.upload, parts.audio.stop_recording]
    gr.on(uploads, dropped, [parts.audio, run, languages], [*outputs, parts.audio], **slow)
    languages.input(again, [remembered, run, languages], outputs, **slow)
    run.input(another_run, [remembered, run], [*outputs, run, languages], **slow)
    gr.on(
        [parts.language.input, parts.place.input],
        explain,
        [remembered, run, parts.language, parts.place],
        outputs,
        **{**slow, "show_progress_on": parts.explained},
    )
