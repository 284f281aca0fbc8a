"""The section of a run's report about its model: cost and drawn graph."""

from graftdet.models.analysis.graph_svg import draw_model
from graftdet.models.analysis.summary import summarize, summary_text, totals
from graftdet.models.graph.detection_model import DetectionModel
from graftdet.utils.reporting.page import Section, details, image, numbers, preformatted


def model_section(model: DetectionModel, size: tuple[int, int]) -> Section:
    """Describe a model.

    Args:
        model: Is not changed.
        size: Height and width of the images that costs are computed for.
    """
    costs = totals(summarize(model, size))
    shown = {
        "parameters": costs["params"],
        f"GFLOPs at {size[1]}x{size[0]}": f"{2 * costs['macs'] / 1e9:.3g}",
        "rows": len(model.spec.rows),
        "classes": model.nc,
    }
    graph = image(draw_model(model, size).encode(), "svg+xml", "graph of the model", css_class="graph")
    parts = [
        numbers(shown),
        details("Graph", f'<div class="wide">{graph}</div>'),
        details("Rows", preformatted(summary_text(model, size))),
        details("YAML", preformatted(model.yaml_text)),
    ]
    return Section("Model", "".join(parts))
