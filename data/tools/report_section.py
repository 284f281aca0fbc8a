"""The section of a run's report about its dataset."""

from graftdet.data.dataset_config import load_data_config, open_split
from graftdet.data.tools.audit import audit
from graftdet.data.tools.report import format_report
from graftdet.utils.reporting.page import Section, paragraph, preformatted, table
from graftdet.utils.text import counted

MAX_IMAGES = 2000  # more are not decoded for a report


def dataset_section(name: str) -> Section:
    """Describe a dataset: what `data check` reports, if its images are few.

    Args:
        name: The data YAML, a path or a name in configs/data.
    """
    config = load_data_config(name)
    splits = {split: open_split(config, split) for split in config.splits}
    total = sum(len(split.samples) for split in splits.values())
    if total <= MAX_IMAGES:
        return Section("Dataset", preformatted(format_report(audit(config))))
    rows = [
        (split, len(found.samples), sum(len(sample.boxes) for sample in found.samples))
        for split, found in splits.items()
    ]
    note = paragraph(
        f"{counted(total, 'image')}: `graftdet data check {name}` decodes all of them and reports problems.", note=True
    )
    return Section("Dataset", table(("split", "images", "boxes"), rows, right=(1, 2)) + note)
