"""Build the documentation site: `python -m docs.site` (or `make docs`) writes it into build/site.

The pages are those of docs/ and of the repository's root, which also read well on a code host. Links that lead out of
docs/ are changed here: to the page of that file, for other files to a page that shows their text.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build"
NAV = {
    "Start": {
        "Overview": "README.md",
        "中文": "README.zh-CN.md",
        "Quick start": "docs/quickstart.md",
        "快速上手": "docs/quickstart.zh-CN.md",
        "Training on your own data": "docs/training.md",
        "Datasets": "docs/datasets.md",
        "Weights": "docs/weights.md",
        "Questions and answers": "docs/faq.md",
    },
    "Edit a model": {
        "Model YAML": "docs/model-yaml.md",
        "Blocks": "docs/blocks.md",
        "Heads": "docs/heads.md",
        "Models": "docs/models.md",
        "Model editor": "docs/editor.md",
        "Lint rules": "docs/lint-rules.md",
        "Grafting and weight transfer": "docs/grafting.md",
        "Plugins": "docs/plugins.md",
    },
    "Tutorials": {
        "Graft SE into YOLOv5n": "docs/tutorials/squeeze-excitation.md",
        "A GhostNet backbone": "docs/tutorials/ghostnet-backbone.md",
        "A custom attention block": "docs/tutorials/custom-attention.md",
        "From YOLOv5 to here": "docs/tutorials/from-yolov5.md",
        "To a Raspberry Pi with ncnn": "docs/tutorials/raspberry-pi.md",
        "int8 on Intel processors": "docs/tutorials/int8-intel.md",
        "Ablation tables for a paper": "docs/tutorials/ablation.md",
    },
    "Tune": {
        "Hyperparameters": "docs/hyperparameters.md",
        "Results": "docs/results.md",
        "Benchmarks": "docs/benchmarks.md",
        "Experiments": "benchmarks/results/experiments.md",
        "Tables of runs": "benchmarks/results/README.md",
    },
    "Deploy": {
        "Detection": "docs/detection.md",
        "Export": "docs/export.md",
        "Exported files": "docs/exported-files.md",
        "Export support": "docs/export-support.md",
        "Serving": "docs/serving.md",
    },
    "Look up": {
        "Command line": "docs/command-line.md",
        "Python API": "docs/python-api.md",
        "Migration from YOLOv5": "docs/migration.md",
        "Compatibility": "docs/compatibility.md",
        "Architecture": "docs/architecture.md",
        "Contributing": "CONTRIBUTING.md",
        "Changelog": "CHANGELOG.md",
    },
}
"""Tab -> title of a page -> its file."""
_LINK = re.compile(r"(\[[^\]]*\]\()([^)\s]+)(\))")
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml"}


def page_names() -> dict[str, str]:
    """The file of each page -> its name on the site. Pages lie in one folder; the README is the index."""
    files = [file for pages in NAV.values() for file in pages.values()]
    other = {"README.md": "index.md", "README.zh-CN.md": "index.zh-CN.md", "benchmarks/results/README.md": "runs.md"}
    names = {file: other.get(file, Path(file).name) for file in files}
    if len(set(names.values())) < len(names):
        raise ValueError("two pages have one name")
    return names


def write_pages(folder: Path) -> list[Path]:
    """Write the pages of the site as Markdown, with images, into `folder`; returns the pages.

    Raises:
        FileNotFoundError: a link leads nowhere.
    """
    names, shown = page_names(), set()
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    for file, name in names.items():
        text = (ROOT / file).read_text(encoding="utf-8")

        def replace(match: re.Match, file: str = file) -> str:
            return match[1] + _target(match[2], ROOT / file, names, shown) + match[3]

        (folder / name).write_text(_outside_code(text, lambda part: _LINK.sub(replace, part)), encoding="utf-8")
    for file in sorted(shown):
        _show(ROOT / file, folder / _shown_name(file))
    return sorted(folder.glob("*.md"))


def _outside_code(text: str, change) -> str:
    """`text` with its parts outside of code blocks changed."""
    parts = re.split(r"(^```.*?^```$)", text, flags=re.S | re.M)
    return "".join(part if part.startswith("```") else change(part) for part in parts)


def _target(link: str, page: Path, names: dict[str, str], shown: set[str]) -> str:
    """What a link of a page becomes on the site."""
    path, _, anchor = link.partition("#")
    if "://" in link or not path:
        return link
    found = (page.parent / path).resolve()
    file = found.relative_to(ROOT).as_posix()
    if not found.exists():
        raise FileNotFoundError(f"{page}: links to {link}, which does not exist")
    if file.startswith("docs/images/"):
        return file.removeprefix("docs/")
    if file not in names:
        shown.add(file)
    return (names.get(file) or _shown_name(file)) + (f"#{anchor}" if anchor else "")


def _shown_name(file: str) -> str:
    return f"file-{file.replace('/', '-')}.md"


def _show(file: Path, page: Path) -> None:
    """A page with the text of a file, or the names in a folder."""
    title = file.relative_to(ROOT).as_posix()
    if file.is_dir():
        text = "\n".join(
            f"- `{entry.name}`" for entry in sorted(file.iterdir()) if not entry.name.startswith(("_", "."))
        )
    elif file.suffix == ".md" or not file.suffix:
        text = file.read_text(encoding="utf-8")
    else:
        text = f"```{_LANGUAGES.get(file.suffix, '')}\n{file.read_text(encoding='utf-8')}```"
    page.write_text(f"# {title}\n\n{text}\n", encoding="utf-8")


def write_config(path: Path, source: str) -> None:
    """Write the configuration of the site generator (Zensical)."""
    names = page_names()
    tabs = ",\n".join(
        f'  {{ "{tab}" = [{", ".join(f"""{{ "{title}" = "{names[file]}" }}""" for title, file in pages.items())}] }}'
        for tab, pages in NAV.items()
    )
    path.write_text(
        f"""[project]
site_name = "GraftDet"
site_description = "Object detectors whose network you edit"
docs_dir = "{source}"
site_dir = "site"
use_directory_urls = false
nav = [
{tabs}
]

[project.theme]
font = false
features = ["navigation.tabs", "navigation.top", "content.code.copy", "search.highlight"]

[[project.theme.palette]]
media = "(prefers-color-scheme: light)"
scheme = "default"
toggle.icon = "lucide/sun"
toggle.name = "Dark"

[[project.theme.palette]]
media = "(prefers-color-scheme: dark)"
scheme = "slate"
toggle.icon = "lucide/moon"
toggle.name = "Light"
""",
        encoding="utf-8",
    )


def build(folder: Path = OUT) -> int:
    """Build the site into `folder`/site; returns the exit status of the generator, not 0 where it warns."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pages(folder / "pages")
    write_config(folder / "zensical.toml", "pages")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict", "--config-file", "zensical.toml"]
    return subprocess.run(command, cwd=folder).returncode


def main() -> None:
    """Build the site, into `--out`/site."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write into (default: build)")
    sys.exit(build(parser.parse_args().out))


if __name__ == "__main__":
    main()
