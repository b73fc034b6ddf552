"""Plots of measurements as SVG: a row for each contender, a bar for its median, and a dot for each sample."""

import statistics
from dataclasses import dataclass
from xml.sax.saxutils import escape

# Pixels.
WIDTH, MARGIN, LABELS, VALUES = 900, 16, 230, 110
HEADING, ROW, BAR = 34, 24, 14


@dataclass(frozen=True)
class Panel:
    """Contenders that are compared in one unit: the samples of each by its name, in the order of the rows."""

    heading: str
    rows: dict
    # The bound that is asked for, in the unit of the samples, and what to call it.
    bound: float = None
    bound_name: str = ""

    def height(self):
        return HEADING + ROW * len(self.rows)


def short(value):
    """A number of three digits or more: 1,996,783 and 0.87."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def text(x, y, words, style="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def draw_row(name, samples, top, scale):
    middle = top + ROW / 2
    median = statistics.median(samples)
    yield text(LABELS - 8, middle + 4, name, anchor="end")
    yield f'<rect class="bar" x="{LABELS}" y="{middle - BAR / 2:.1f}" width="{median * scale:.1f}" height="{BAR}"/>'
    for sample in samples:
        yield f'<circle cx="{LABELS + sample * scale:.1f}" cy="{middle:.1f}" r="3"/>'
    yield text(WIDTH - MARGIN, middle + 4, short(median), anchor="end")


def draw_panel(panel, top):
    most = max([sample for samples in panel.rows.values() for sample in samples] + [panel.bound or 0])
    scale = (WIDTH - LABELS - VALUES - MARGIN) / (most or 1)
    yield text(MARGIN, top + HEADING - 10, panel.heading, ' class="heading"')
    for nth, (name, samples) in enumerate(panel.rows.items()):
        yield from draw_row(name, samples, top + HEADING + nth * ROW, scale)
    if panel.bound:
        x, bottom = LABELS + panel.bound * scale, top + panel.height()
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top + HEADING - 4}" y2="{bottom}"/>'
        yield text(x + 4, top + HEADING - 8, panel.bound_name, ' class="bound"')


STYLE = """
text { font: 13px system-ui, sans-serif; fill: #222 } .heading { font-weight: 600 } .bound { font-size: 11px; fill: #a33 }
rect.page { fill: #fff } rect.bar { fill: #8fb7e0 } circle { fill: #1d4f85; fill-opacity: .75 } line { stroke: #a33; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } rect.page { fill: #16191d } rect.bar { fill: #34597f } circle { fill: #9cc7f5 } .bound { fill: #f09a9a } line { stroke: #f09a9a } }
"""


def svg(title, panels):
    """The document. Panels without a row are left out."""
    panels = [panel for panel in panels if panel.rows]
    top, parts = 2 * HEADING, []
    for panel in panels:
        parts += draw_panel(panel, top)
        top += panel.height() + HEADING / 2
    height = top + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" role="img">'
    lines = [head, f"<title>{escape(title)}</title>", f"<style>{STYLE}</style>", f'<rect class="page" width="{WIDTH}" height="{height:.0f}"/>']
    lines += [text(MARGIN, HEADING, title, ' class="heading"'), text(MARGIN, HEADING + 20, "bar and number: the median; a dot: a sample"), *parts, "</svg>"]
    return "\n".join(lines) + "\n"
