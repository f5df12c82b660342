"""What is made of shipped files is made once, and anew where one of them has changed."""

from moesim.config.files.inputs import files_read, read_input
from moesim.config.files.shipped import made_once, stems
from moesim.model import load_model


def test_it_is_made_once_and_its_files_are_noted_each_time(tmp_path):
    path = tmp_path / "part.yaml"
    path.write_text("one")
    made = []

    def make() -> bytes:
        made.append(read_input(path))
        return made[-1]

    for _ in range(2):
        with files_read() as files:
            assert made_once((tmp_path, "part"), make) == b"one"
        assert [file.path for file in files] == [path]
    assert len(made) == 1
    path.write_text("another")
    assert made_once((tmp_path, "part"), make) == b"another"
    path.unlink()
    assert len(made) == 2


def test_a_model_in_other_formats_is_another_one():
    assert load_model("gpt-oss-20b") is load_model("GPT OSS 20B")
    other = load_model("gpt-oss-20b@fp8")
    assert other is load_model("gpt-oss-20b@fp8")
    assert other != load_model("gpt-oss-20b")


def test_a_file_that_comes_is_found(tmp_path):
    assert stems(tmp_path / "none", ".yaml") == []
    (tmp_path / "b.yaml").touch()
    (tmp_path / "c.json").touch()
    assert stems(tmp_path, ".yaml") == ["b"]
    (tmp_path / "a.yaml").touch()
    assert stems(tmp_path, ".yaml") == ["a", "b"]
