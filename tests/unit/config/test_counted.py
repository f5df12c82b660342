from moesim.config.counted import counted


def test_one_thing_has_no_s():
    assert [counted(n, "MoE layer") for n in (0, 1, 2)] == [
        "0 MoE layers",
        "1 MoE layer",
        "2 MoE layers",
    ]
