"""Pieces of an HTML page that loads nothing; all text is escaped here."""

import dataclasses
from collections.abc import Iterable, Sequence
from html import escape

# In Python, so that the node's code fingerprint covers it.
_STYLE = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --ink: #1c2430; --dim: #5b6573;
  --line: #c9d0da; --blue: #0072b2; --orange: #c04f00; --good: #1a7f4b; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --back: #14181f; --card: #1c222b; --ink: #e3e7ed;
  --dim: #9aa5b4; --line: #3b4552; --blue: #56b4e9; --orange: #f0953f; --good: #57c98a; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1060px; padding: 12px 20px 40px; color: var(--ink); background: var(--back);
  font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
h1 { margin: 8px 0; font-size: 22px; }
h2 { margin: 32px 0 4px; font-size: 18px; }
h3 { margin: 20px 0 0; font-size: 15px; }
p { margin: 4px 0; overflow-wrap: anywhere; }
.dim { color: var(--dim); font-size: 13px; }
.verdict { margin: 12px 0; padding: 12px 16px; background: var(--card); border: 1px solid var(--line);
  border-left: 6px solid var(--dim); border-radius: 6px; }
.verdict strong { font-size: 18px; }
.verdict ul { margin: 6px 0 2px; padding-left: 20px; }
.verdict.good { border-left-color: var(--good); }
.verdict.bad { border-left-color: var(--bad); }
.good strong, td.good { color: var(--good); }
.bad strong, td.bad { color: var(--bad); font-weight: 600; }
td.bad { white-space: nowrap; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 400px), 1fr)); gap: 14px; }
figure { margin: 0; padding: 10px 12px; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; }
figcaption { margin-bottom: 6px; }
figure svg { display: block; width: 100%; height: auto; }
figure svg text { font-family: inherit !important; }
.scroll { overflow-x: auto; margin: 8px 0; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 5px 12px; text-align: left; }
th { color: var(--dim); font-weight: 600; border-bottom: 1px solid var(--line); }
tbody tr + tr td { border-top: 1px solid color-mix(in srgb, var(--line) 45%, transparent); }
th.number, td.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td p { min-width: 170px; }
summary { cursor: pointer; color: var(--dim); }
"""


def make_page(title: str, parts: Iterable[str]) -> str:
    """A whole page.

    Args:
      title: plain text.
      parts: its content as HTML.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def make_element(tag: str, text: str, style: str = "") -> str:
    """An element that holds plain text; `style` is its class."""
    attribute = f' class="{style}"' if style else ""
    return f"<{tag}{attribute}>{escape(text)}</{tag}>"


@dataclasses.dataclass(frozen=True)
class Cell:
    """A table's cell.

    Attributes:
      text: what it says.
      style: its class; "number" stands right.
      note: a smaller line below.
    """

    text: str
    style: str = ""
    note: str = ""

    def render(self, tag: str = "td") -> str:
        """The cell as HTML."""
        note = make_element("p", self.note, "dim") if self.note else ""
        attribute = f' class="{self.style}"' if self.style else ""
        return f"<{tag}{attribute}>{escape(self.text)}{note}</{tag}>"


def make_number(value: float | None) -> Cell:
    """Whole numbers as they are, others to four places, a dash for None."""
    if value is None:
        return Cell("–", "number")
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:,.4f}", "number")


def make_table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table that scrolls where it is too wide; a column's head stands as its first cell does."""
    heads = "".join(
        Cell(name, "" if cell.style != "number" else cell.style).render("th")
        for name, cell in zip(columns, rows[0], strict=True)
    )
    lines = "\n".join(f"<tr>{''.join(cell.render() for cell in row)}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>\n{lines}\n</tbody></table></div>'
    )
