"""The pages a person reads: one Markdown and one self-contained HTML file a run, from the same content.

The HTML holds its pictures and style itself and asks nothing of the network; a content policy in it says so to the
browser too.
"""

import base64
import dataclasses
import pathlib
from collections.abc import Sequence

from cmr_jax.evals.tables import Table, table


@dataclasses.dataclass(frozen=True)
class Picture:
    """A PNG file of the run's folder and what it shows."""

    name: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Page:
    """All that a report says. `facts` are name and value; `checklist` is item, where it comes from, what we can say."""

    title: str
    about: Sequence[str]
    flow: Table
    tables: Sequence[Table]
    pictures: Sequence[Picture]
    notes: Sequence[str]
    checklist: Table
    card: Sequence[tuple[str, str]]
    provenance: Sequence[tuple[str, str]]
    command: str
    failures: Sequence[Table] = ()
    failure_pictures: Sequence[Picture] = ()
    dataset: Table | None = None
    config: Sequence[tuple[str, str]] = ()


def write(folder: pathlib.Path, page: Page, name: str) -> None:
    """Writes `name`.md and `report.html` into `folder`, which holds the pictures already."""
    (folder / f"{name}.md").write_text(markdown(page), encoding="utf-8")
    (folder / "report.html").write_text(html(page, folder), encoding="utf-8")


def markdown(page: Page) -> str:
    """What was scored, the figures, how they were made and how to make them again."""
    sections = [f"# {page.title}", *page.about]
    flow = [page.flow] if page.dataset is None else [page.dataset, page.flow]
    sections += [f"## {each.title}\n\n{each.markdown()}" for each in [*page.tables, *page.failures, *flow]]
    if page.notes:
        sections.append("## Notes\n\n" + "\n".join(f"- {note}" for note in page.notes))
    sections += [f"![{each.caption}]({each.name})" for each in [*page.pictures, *page.failure_pictures]]
    sections.append(f"## {page.checklist.title}\n\n{page.checklist.markdown()}")
    sections.append("## Model card\n\n" + "\n".join(f"- **{name}**: {text}" for name, text in page.card))
    sections.append("## Where the embeddings come from\n\n" + table(["", ""], page.provenance))
    if page.config:
        sections.append("## Configuration of the model\n\n" + table(["setting", "value"], page.config))
    sections.append(f"## To make this again\n\n    {page.command}")
    return "\n\n".join(sections) + "\n"


def html(page: Page, folder: pathlib.Path) -> str:
    """One file: text escaped, pictures inside."""

    def inside(pictures: Sequence[Picture]) -> list[tuple[str, str]]:
        return [
            (each.caption, base64.b64encode((folder / each.name).read_bytes()).decode("ascii")) for each in pictures
        ]

    import jinja2  # late, so that a mistyped option is answered at once

    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.from_string(_TEMPLATE).render(
        page=page, images=inside(page.pictures), failure_images=inside(page.failure_pictures)
    )


_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{{ page.title }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 108rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.2rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
p, ul, dl, pre { max-width: 72rem; }
.scroll { overflow-x: auto; }
.scroll td:first-child, .scroll th:first-child { position: sticky; left: 0; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 14px; }
th, td { padding: .25rem .7rem; text-align: left; border-bottom: 1px solid #eee; }
td { white-space: pre; } .wide td { white-space: normal; vertical-align: top; }
th { border-bottom: 2px solid #bbb; } tr:hover td { background: #f6f8fa; }
img { max-width: min(100%, 72rem); height: auto; } figure { margin: 1.5rem 0; } figcaption { color: #555; }
pre { background: #f6f8fa; padding: .8rem; white-space: pre-wrap; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; }
</style>
</head>
<body>
{% macro rows(each, kind="") %}
<div class="scroll"><table class="{{ kind }}">
<thead><tr>{% for name in each.header %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in each.rows %}
<tr>{% for text in row %}<td>{{ text }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
{% macro figures(pictures) %}
{% for caption, data in pictures %}
<figure><img alt="{{ caption }}" src="data:image/png;base64,{{ data }}"><figcaption>{{ caption }}</figcaption></figure>
{% endfor %}
{% endmacro %}
<h1>{{ page.title }}</h1>
{% for text in page.about %}<p>{{ text }}</p>{% endfor %}
<nav><a href="#figures">Figures</a><a href="#plots">Plots</a>
{% if page.failures %}<a href="#failures">Failures</a>{% endif %}
<a href="#flow">Studies</a><a href="#notes">Notes</a>
<a href="#checklist">Checklist</a><a href="#card">Model card</a><a href="#again">Make it again</a></nav>
<div id="figures">
{% for each in page.tables %}<h2>{{ each.title }}</h2>{{ rows(each) }}{% endfor %}
</div>
<h2 id="plots">Plots</h2>
{{ figures(images) }}
{% if page.failures %}
<div id="failures">
{% for each in page.failures %}<h2>{{ each.title }}</h2>{{ rows(each) }}{% endfor %}
{{ figures(failure_images) }}
</div>
{% endif %}
{% if page.dataset %}<h2>{{ page.dataset.title }}</h2>{{ rows(page.dataset) }}{% endif %}
<h2 id="flow">{{ page.flow.title }}</h2>{{ rows(page.flow) }}
<h2 id="notes">Notes</h2>
<ul>{% for note in page.notes %}<li>{{ note }}</li>{% else %}<li>none</li>{% endfor %}</ul>
<h2 id="checklist">{{ page.checklist.title }}</h2>{{ rows(page.checklist, "wide") }}
<h2 id="card">Model card</h2>
<dl>{% for name, text in page.card %}<dt><b>{{ name }}</b></dt><dd>{{ text }}</dd>{% endfor %}</dl>
<h2 id="again">Where the embeddings come from, and to make this again</h2>
<div class="scroll"><table><tbody>
{% for name, value in page.provenance %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}
</tbody></table></div>
<pre>{{ page.command }}</pre>
{% if page.config %}
<details><summary>Configuration of the model</summary><div class="scroll"><table><tbody>
{% for name, value in page.config %}<tr><td>{{ name }}</td><td>{{ value }}</td></tr>{% endfor %}
</tbody></table></div></details>
{% endif %}
</body>
</html>
"""
