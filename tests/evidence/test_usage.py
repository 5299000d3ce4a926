from skllm_calib.evidence.usage import Usage


def test_usage_adds_up():
    total = sum([Usage(1, 0, 20, 1), Usage(0, 1), Usage(2, 0, 5, 3)], Usage())
    assert total == Usage(3, 1, 25, 4)
