"""What the manual needs of mkdocs beside .mkdocs.yml: notebooks as pages, doctests as code, names as links."""

import base64
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path

from markdown import Extension
from markdown.preprocessors import Preprocessor
from mkdocs.structure.files import File
from typer.main import get_command

from blackbox_fx.cli.__main__ import app

STUB = Path(__file__).parent / "blackbox_fx/__init__.pyi"
PUBLIC = set(re.findall(r"^from \.\S+ import (\w+) as", STUB.read_text(), re.M)) - {"core"}
NAME = re.compile(r"(?<![`\[\w])`(?:bfx\.)?([A-Za-z]\w*)((?:\.\w+)*)(?:\([^`]*\))?`(?![`\]\w])")
STYLE = """
.md-grid { max-width: 72rem }
.md-typeset pre > code { font-size: .64rem }
.md-typeset table:not([class]) code { word-break: normal; overflow-wrap: break-word }
@media (min-width: 76.25em) { .md-sidebar { width: 10.5rem } }
.md-typeset .output pre > code { background: none; border-left: .15rem solid var(--md-default-fg-color--lighter) }
.md-typeset p > img { background: white; border-radius: .2rem }
.md-typeset .doc-heading { font-weight: 600 }
.md-typeset details.shape { font-size: inherit; border: none; box-shadow: none; padding: 0 }
.md-typeset details.shape > summary { background: none; margin: 0; padding: 0; pointer-events: none }
.md-typeset details.shape > summary::before, .md-typeset details.shape > summary::after { display: none }
.md-typeset details.shape > summary ~ ul { margin-top: .4em }
"""


class _Lines(Preprocessor):
    """Puts doctests into fences, and links `Name` to where the reference describes it."""

    def run(self, lines: list[str]) -> list[str]:
        out: list[str] = []
        fenced = doctest = False
        for line in lines:
            if line.lstrip().startswith("```"):
                fenced = not fenced
                line = line.replace("```python no-run", "```python")
            elif not fenced and not doctest and line.startswith(">>> "):
                out += ["", "```pycon"]
                doctest = True
            elif doctest and not line.strip():
                out.append("```")
                doctest = False
            if not fenced and not doctest and not line.startswith("#"):
                line = re.sub(r"<(?=\w+, )", "&lt;", re.sub("::$", ":", line))  # <g, y> is no tag
                line = NAME.sub(_link, line)
            out.append(line)
        return [*out, "```"] if doctest else out


def _link(match: re.Match[str]) -> str:
    name, member = match.groups()
    if name not in PUBLIC:
        return match[0]
    if not member:
        return f"[{match[0]}][blackbox_fx.{name}]"
    # inherited and private members have no place of their own
    return f'<autoref identifier="blackbox_fx.{name}{member}" optional><code>{match[0].strip("`")}</code></autoref>'


class _Manual(Extension):
    def extendMarkdown(self, md) -> None:
        md.preprocessors.register(_Lines(md), "manual", 29)  # before fences are looked for, at 25


def on_config(config):
    """Adds the extension above."""
    config.markdown_extensions.append(_Manual())
    return config


def on_files(files, config):
    """Replaces each notebook by a page with its kept outputs."""
    for file in list(files):
        if file.src_uri.endswith(".ipynb"):
            files.remove(file)
            for made in _page(Path(file.abs_src_path), config):
                files.append(made)
    files.append(File.generated(config, "assets/manual.css", content=STYLE))
    return files


def on_page_markdown(markdown, **_):
    """Links to notebooks become links to their pages; the options of all commands go where they are wanted."""
    if "<!-- options -->" in markdown:
        markdown = markdown.replace("<!-- options -->", "\n".join(_options(get_command(app), "blackbox-fx")))
    return re.sub(r"(\]\([\w-]+)\.ipynb", r"\1.md", markdown)


def _options(command, name: str) -> Iterator[str]:
    """A section for each command, with a list of its arguments and options."""
    if hasattr(command, "commands"):
        for word, sub in command.commands.items():
            yield from _options(sub, f"{name} {word}")
        return
    yield from (f"## {name}", "", inspect.cleandoc(command.help), "")
    for parameter in command.params:
        words = (
            ", ".join(parameter.opts)
            if parameter.opts[0].startswith("-")
            else parameter.metavar or parameter.name.upper()
        )
        default = parameter.default
        told = f" Default: {default}." if default not in (None, False, "", ()) and default != [] else ""
        yield f"- `{words}`: {getattr(parameter, 'help', None) or ''}{told}"
    yield ""


def _page(path: Path, config) -> list[File]:
    parts: list[str] = []
    made: list[File] = []
    for cell in json.loads(path.read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            data = {kind: "".join(text) for kind, text in output.get("data", {}).items()}
            if "image/svg+xml" in data:
                name = f"images/{path.stem}-{len(made)}.svg"
                made.append(File.generated(config, name, content=data["image/svg+xml"]))
                parts.append(f"![A picture that the code above makes]({name})")
            elif "image/png" in data:
                name = f"images/{path.stem}-{len(made)}.png"
                made.append(File.generated(config, name, content=base64.b64decode(data["image/png"])))
                parts.append(f"![A plot that the code above draws]({name})")
            elif "text/html" in data:
                parts.append(data["text/html"].strip().replace("\n", " "))
            else:
                text = data.get("text/plain") or "".join(output.get("text", ""))
                parts.append(f"``` {{ .text .output .no-copy }}\n{text.rstrip()}\n```")
    return [File.generated(config, f"{path.stem}.md", content="\n\n".join(parts)), *made]
