import os

from moesim.runtime import memory


def test_what_is_left_is_less_than_all_there_is():
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < memory.available_bytes() <= everything


def test_where_the_system_does_not_tell_it_is_all_of_it(monkeypatch, tmp_path):
    everything = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for content in (None, "MemTotal: 5 kB\n", "nonsense\n"):
        path = tmp_path / "meminfo"
        if content is not None:
            path.write_text(content)
        monkeypatch.setattr(memory, "_LINUX", path)
        assert memory.available_bytes() == everything
    path.write_text("MemTotal: 5 kB\nMemAvailable:    3 kB\n")
    assert memory.available_bytes() == 3072
