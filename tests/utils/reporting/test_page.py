import math
from html.parser import HTMLParser

from graftdet.utils.reporting.page import Section, details, image, numbers, page, paragraph, preformatted, row, table

HOSTILE = '"><script>alert(1)</script> & \udcff 细胞'
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Tags and text of a page; asserts that all tags are closed in their order."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(content)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_everything_but_html_of_this_module_is_escaped():
    parts = [
        table([HOSTILE], [[HOSTILE]]),
        paragraph(HOSTILE, note=True),
        details(HOSTILE, preformatted(HOSTILE)),
        numbers({HOSTILE: HOSTILE}),
        image(b"x", "jpeg", HOSTILE, HOSTILE),
    ]
    content = page(HOSTILE, "", [Section(HOSTILE, row(*parts))], reload_seconds=5)
    reader = Reader(content)
    assert "script" not in [tag for tag, _ in reader.tags] and reader.text.count("<script>alert(1)</script>") == 12
    assert ("meta", {"http-equiv": "refresh", "content": "5"}) in reader.tags
    assert all(
        name in ("class", "id", "href", "src", "alt", "lang", "charset", "http-equiv", "content", "name")
        for _, attributes in reader.tags
        for name in attributes
    )
    content.encode("utf-8")


def test_a_page_may_load_and_run_nothing():
    content = page("run", "", [])
    assert (
        "default-src 'none'" in content
        and "refresh" not in content
        and "http://" not in content
        and "https://" not in content
    )


def test_cells_of_tables():
    content = table(["name", "value"], [["a", 1234567], ["b", 0.12345], ["c", math.nan], ["d", None]], right=[1])
    assert [part.split("<")[0] for part in content.split('<td class="n">')[1:]] == ["1,234,567", "0.123", "-", "-"]
