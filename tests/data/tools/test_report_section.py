from graftdet.data.tools import report_section


def test_a_dataset_is_checked_if_its_images_are_few(workspace, monkeypatch):
    data = str(workspace / "data.yaml")
    section = report_section.dataset_section(data)
    assert section.title == "Dataset" and "minimum, quartiles, maximum" in section.html and "triangle" in section.html
    monkeypatch.setattr(report_section, "MAX_IMAGES", 1)
    monkeypatch.setattr(report_section, "audit", None)  # would decode all images
    counted = report_section.dataset_section(data).html
    assert "graftdet data check" in counted and "<td>train</td>" in counted
