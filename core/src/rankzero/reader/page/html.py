"""Write a page as one HTML file. Its scripts and styles are ours only: a policy names their hashes.

Nothing of a run is HTML on the page: data are in base64, and scripts put them there as text.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rankzero.files.writing import replacing
from rankzero.reader.page.payload import Page, PageRun, title

_ASSETS = Path(__file__).parent / "assets"
_STYLES = ("uPlot.min.css", "page.css")
_SCRIPTS = ("dom.js", "data.js", "state.js", "charts.js", "table.js", "media.js", "details.js", "live.js", "app.js")
_POLICY = "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data: blob:{own}; media-src data: blob:{own}; connect-src {connect}; base-uri 'none'; form-action 'none'"  # noqa: E501
_HEIGHT = 640  # of a page in a notebook


@functools.cache
def _assets() -> tuple[str, str, str]:
    """Return the styles, uPlot and our scripts."""
    styles, scripts = (
        "\n".join((_ASSETS / name).read_text(encoding="utf-8") for name in names) for names in (_STYLES, _SCRIPTS)
    )
    uplot = (_ASSETS / "uPlot.iife.min.js").read_text(encoding="utf-8")
    return styles, uplot, f'(() => {{\n"use strict";\n{scripts}\n}})();'


def policy(*, is_live: bool = False) -> str:
    """Return the content security policy; a live page may ask the server that it came from."""
    styles, *scripts = map(_hash, _assets())
    own, connect = (" 'self'", "'self'") if is_live else ("", "'none'")
    return _POLICY.format(scripts=" ".join(scripts), styles=styles, own=own, connect=connect)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def render(heading: str, blocks: Iterable[tuple[str, bytes]], *, is_live: bool = False) -> Iterator[bytes]:
    """Yield the HTML of a page in parts."""
    styles, uplot, scripts = _assets()
    yield f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(is_live=is_live)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="generator" content="rankzero">
<link rel="icon" href="data:,">
<title>{escape(heading)}</title>
<style>{styles}</style>
</head>
<body>
<noscript>This page draws its curves with JavaScript, which is switched off.</noscript>
""".encode("utf-8", "replace")
    for name, content in blocks:
        yield b'<script type="text/plain" id="block-%s">%s</script>\n' % (name.encode(), content)
    yield f"<script>{uplot}</script>\n<script>{scripts}</script>\n</body>\n</html>\n".encode()


@dataclass(frozen=True, slots=True)
class Written:
    """What was written."""

    path: Path
    size: int
    files_left_out: int
    bytes_left_out: int


def write_page(runs: Sequence[PageRun], path: Path, max_media: int) -> Written:
    """Write a page of runs, which replaces ``path``.

    Raises:
        OSError: the file cannot be written; ``path`` is unchanged.
    """
    runs = sorted(runs, key=lambda run: run.contents.info.started)
    page = Page(runs, max_media=max_media)
    with replacing(path) as file:
        for part in render(title(runs), page.blocks()):
            file.write(part)
        size = file.tell()
    return Written(path, size, page.files.left_out, page.files.bytes_left_out)


def as_frame(html: bytes) -> str:
    """Return a page as a frame for a notebook, in which it cannot reach the notebook."""
    content = escape(html.decode("utf-8"))
    return (
        f'<iframe srcdoc="{content}" sandbox="allow-scripts allow-downloads" width="100%" height="{_HEIGHT}" '
        'style="border: 0"></iframe>'
    )
