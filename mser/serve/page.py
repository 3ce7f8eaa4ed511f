"""The page itself: what stands where, and which request each action makes. Nothing else imports Gradio."""

from __future__ import annotations

from collections.abc import Iterator
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


def _page(service: Service) -> gr.Blocks:
    limits = service.limits
    chosen, first = next(iter(service.runs.items()))
    with gr.Blocks(title="mser", analytics_enabled=False) as page:
        page.state_session_capacity = OPEN_PAGES
        # A mounted page does not say so by itself; until it has, Gradio takes any file of this machine for an upload.
        page.has_launched = True
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

        def updates(shown: Shown) -> dict[Any, Any]:
            parts = list(zip(shown.parts, range(len(shown.parts)), strict=True))
            return {
                remembered: shown,
                message: gr.HTML(shown.message, visible=bool(shown.message)),
                clip: shown.clip,
                judged: shown.judged,
                over_time: gr.HTML(shown.over_time, visible=bool(shown.over_time)),
                explained: shown.explained,
                language: gr.Dropdown(list(shown.languages), value=shown.language, visible=len(shown.languages) > 1),
                choices: gr.Row(visible=bool(parts) or len(shown.languages) > 1),
                place: gr.Dropdown(parts, value=shown.place, visible=bool(parts)),
            }

        def dropped(path: str | None, chosen: str, asked: list[str]) -> Iterator[dict[Any, Any]]:
            if path is not None:
                for shown in service.dropped(Path(path), chosen, asked):
                    # The upload is gone: the page is ready for the next one.
                    yield {**updates(shown), audio: None}

        def again(shown: Shown, chosen: str, asked: list[str]) -> Iterator[dict[Any, Any]]:
            if shown.recording is not None:
                yield from map(updates, service.judged(shown.recording, chosen, asked))

        def another_run(shown: Shown, chosen: str) -> Iterator[dict[Any, Any]]:
            now = service.runs[chosen]
            known = gr.CheckboxGroup(list(now.languages), value=list(now.languages))
            yield {run: gr.Dropdown(info=now.made_of), languages: known}
            yield from again(shown, chosen, list(now.languages))

        def explain(shown: Shown, chosen: str, whose: str, part: int | None) -> dict[Any, Any]:
            return updates(service.explained(shown, chosen, whose, part))

        def closed(request: gr.Request) -> None:
            # Gradio would keep what a closed page has shown, and the clip for an hour.
            session = page.state_holder.session_data.pop(request.session_hash, None)
            if session is not None:
                service.forget(session.state_data.get(remembered._id, Shown()))

        page.unload(closed)
        outputs = [remembered, message, clip, judged, over_time, explained, language, place, choices]
        # What is asked by another program than the page is refused, and one request waits for the other.
        common: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": 1, "concurrency_id": "clips"}
        slow: dict[str, Any] = {**common, "show_progress": "minimal", "show_progress_on": judged}
        gr.on([audio.upload, audio.stop_recording], dropped, [audio, run, languages], [*outputs, audio], **slow)
        languages.input(again, [remembered, run, languages], outputs, **slow)
        run.input(another_run, [remembered, run], [*outputs, run, languages], **slow)
        gr.on(
            [language.input, place.input],
            explain,
            [remembered, run, language, place],
            outputs,
            **{**slow, "show_progress_on": explained},
        )
    return page
