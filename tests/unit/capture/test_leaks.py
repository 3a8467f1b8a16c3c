from flywheel.capture.leaks import scan
from flywheel.config import PrivacyConfig


def test_real_data_is_reported_and_surrogates_are_not(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("Anna\n")
    texts = [
        ("a", "write to x@gmx.de"),
        ("b", "write to x@example.com"),
        ("c", "I am Anna"),
        ("d", "call (212) 555-0123"),
    ]
    found = scan(texts, PrivacyConfig(names_file=names))
    assert [(leak.id, leak.kind, leak.value, leak.start) for leak in found] == [
        ("a", "email", "x@gmx.de", 9),
        ("c", "name", "Anna", 5),
    ]


def test_a_report_does_not_repeat_the_value():
    assert "gmx" not in str(scan([("a", "x@gmx.de")], PrivacyConfig()))


def test_only_configured_detectors_count():
    assert scan([("a", "x@gmx.de")], PrivacyConfig(detectors=["phone"])) == []
