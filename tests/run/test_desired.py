"""What people asked of a run outlives its coordinator."""

from actors.run.desired import DesiredState, read_desired, write_desired


def test_the_state_that_was_asked_for_is_read_back(tmp_path):
    assert read_desired(tmp_path) == DesiredState(paused=False, targets={})
    write_desired(tmp_path, DesiredState(True, "the judge does not answer", {"generators": 3}))
    assert read_desired(tmp_path) == DesiredState(True, "the judge does not answer", {"generators": 3})
