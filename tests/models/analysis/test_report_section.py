from graftdet.models import ModelSpec, build_model
from graftdet.models.analysis.report_section import model_section


def test_a_model_is_described_by_graph_cost_and_yaml(tiny_yaml):
    text = tiny_yaml.replace("nc: 3", "nc: 3  # <script>")
    model = build_model(ModelSpec.from_text(text, "tiny.yaml")).train()
    section = model_section(model, (64, 96))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert (
        f"{parameters:,}" in section.html and "GFLOPs at 96x64" in section.html and "data:image/svg+xml" in section.html
    )
    assert "<script>" not in section.html and "nc: 3  # &lt;script&gt;" in section.html
    assert model.training
