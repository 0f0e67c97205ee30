"""Colours and the look of charts, for a light and a dark page.

Okabe and Ito's palette, as in ``undertow.plots``; where one of its colours is too close to a page's background, a
lighter or darker one of the same hue takes its place. Specifications of charts name a style (``"blue"``) and never a
colour: the configuration of the scheme says what colour the style has, so one specification serves both.
"""

from __future__ import annotations

from typing import Any

SCHEMES = ("light", "dark")

PAGE = {
    "light": {
        "page": "#FFFFFF",
        "panel": "#F5F7F9",
        "line": "#D5DADF",
        "ink": "#1B1F23",
        "quiet": "#57606A",
        "link": "#005A8F",
    },
    "dark": {
        "page": "#14181C",
        "panel": "#1D2329",
        "line": "#3A424A",
        "ink": "#E6E9EC",
        "quiet": "#A3ACB5",
        "link": "#7CC4EE",
    },
}
"""scheme -> colours of the page and its text"""

MARKS = {
    "light": {"blue": "#0072B2", "orange": "#C05200", "green": "#00805D", "purple": "#A3548A", "grey": "#6E7781"},
    "dark": {"blue": "#56B4E9", "orange": "#E69F00", "green": "#2BB68B", "purple": "#CC79A7", "grey": "#8B949E"},
}
"""scheme -> colours of marks"""

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'


def variables(scheme: str) -> dict[str, str]:
    """Colours of a scheme by the names that the style sheet uses."""
    return PAGE[scheme] | MARKS[scheme]


def config(scheme: str) -> dict[str, Any]:
    """Vega-Lite configuration of a scheme: transparent background, and a colour for each style."""
    page, marks = PAGE[scheme], MARKS[scheme]
    styles = {name: {"color": colour} for name, colour in (marks | {"ink": page["ink"]}).items()}
    return {
        "background": "transparent",
        "font": FONT,
        "view": {"stroke": None},
        "axis": {
            "domainColor": page["quiet"],
            "tickColor": page["quiet"],
            "gridColor": page["line"],
            "labelColor": page["quiet"],
            "titleColor": page["ink"],
            "labelFontSize": 12,
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "titlePadding": 8,
            "labelLimit": 260,
        },
        "axisX": {"grid": False},
        "axisY": {"domain": False, "ticks": False},
        "legend": {
            "labelColor": page["quiet"],
            "titleColor": page["ink"],
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "titleFontSize": 12,
        },
        "range": {"heatmap": {"scheme": "viridis"}, "ramp": {"scheme": "viridis"}},
        "style": styles
        | {
            "words": {"color": page["ink"], "fontSize": 12},
            "quiet-words": {"color": page["quiet"], "fontSize": 12},
            "zero": {"color": page["quiet"], "strokeDash": [4, 3]},
            # Marks on the heat map, whose colours are the same on either page.
            "on-map": {"color": "#FFFFFF"},
            "on-map-star": {"color": "#111111", "fill": "#111111", "stroke": "#FFFFFF"},
        },
    }
