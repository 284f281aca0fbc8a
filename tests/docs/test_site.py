"""The documentation site is built without warnings, and needs no other host."""

import re

import pytest

from docs import site


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    pytest.importorskip("zensical")
    folder = tmp_path_factory.mktemp("site")
    assert site.build(folder) == 0
    return folder / "site"


def test_every_page_of_docs_is_in_the_navigation():
    files = {file for pages in site.NAV.values() for file in pages.values()}
    pages = [path for folder in ("docs", "docs/tutorials") for path in (site.ROOT / folder).glob("*.md")]
    assert {path.relative_to(site.ROOT).as_posix() for path in pages} <= files


def test_pages_lead_to_each_other(built):
    pages = {page.name: page.read_text(encoding="utf-8") for page in built.glob("*.html")}
    assert {"index.html", "index.zh-CN.html", "blocks.html", "experiments.html"} <= set(pages)
    for name, text in pages.items():
        if name == "404.html":
            continue
        for target, anchor in re.findall(r'href="([\w.%-]+\.html)(?:#([^"]*))?"', text):
            assert target in pages, (name, target)
            assert not anchor or f'id="{anchor}"' in pages[target], (name, target, anchor)


def test_the_site_loads_nothing_from_other_hosts(built):
    for page in built.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(
            r'<(script|img|iframe)[^>]+src="(https?:)?//|<link rel="(stylesheet|preconnect)"[^>]*//', text
        )


def test_search_finds_a_block(built):
    assert "C3_GhostModule" in (built / "search.json").read_text(encoding="utf-8")


def test_a_link_that_leads_nowhere_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "README.md").write_text("[x](docs/none.md) and `[y](nothing)`\n```\n[z](code.md)\n```\n")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "NAV", {"Start": {"Overview": "README.md"}})
    with pytest.raises(FileNotFoundError, match=r"links to docs/none\.md"):
        site.write_pages(tmp_path / "out")
    (tmp_path / "docs" / "none.md").write_text("text")
    (tmp_path / "README.md").write_text("[x](docs/none.md#a) [w](https://x.org)\n```\n[z](code.md)\n```\n")
    index, shown = site.write_pages(tmp_path / "out")[::-1]
    assert index.read_text() == "[x](file-docs-none.md.md#a) [w](https://x.org)\n```\n[z](code.md)\n```\n"
    assert shown.read_text() == "# docs/none.md\n\ntext\n"
