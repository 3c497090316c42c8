from secateurs.text.source_code import read_docstrings, read_python

PROSE = "Words about it. " * 20


def test_a_source_file_is_a_document() -> None:
    source = f"# {PROSE}\nx = 1\n".encode()
    files = {"a.py": source, "broken.py": b"def (" + source, "short.py": b"x = 1\n"}
    assert [item.document for item in read_python(files)] == ["a.py"]


def test_docstrings_are_read_dedented_by_qualified_name() -> None:
    source = f'''"""{PROSE}"""
class A:
    """Short."""
    def f(self):
        """{PROSE}

        Flush.
            Indented.
        """
'''
    found = list(read_docstrings({"a.py": source.encode()}))
    assert [item.document for item in found] == ["a.py:", "a.py:A.f"]
    assert found[1].text == f"{PROSE.strip()} \n\nFlush.\n    Indented."
