"""What a search's options become in its plan."""

import pytest

from trainable.address import open_place
from trainable.errors import UsageError, UserError
from tuning.planning import pretrained_weights


def test_pretrained_weights_are_timms_a_file_or_an_address(s3, tmp_path):
    (tmp_path / "tiny.pth").write_bytes(b"weights")
    bucket = s3.make_bucket()
    open_place(f"{bucket}/tiny.pth", "").write_bytes(b"weights")
    assert [pretrained_weights(option) for option in (None, "timm")] == [False, True]
    assert pretrained_weights(str(tmp_path / "tiny.pth")) == str(tmp_path / "tiny.pth")
    for address in ((tmp_path / "tiny.pth").as_uri(), f"{bucket}/tiny.pth"):
        assert pretrained_weights(address) == address


def test_pretrained_weights_that_are_not_there_are_said_before_the_search(s3, tmp_path):
    bucket = s3.make_bucket()
    for nowhere in (str(tmp_path / "no.pth"), (tmp_path / "no.pth").as_uri()):
        with pytest.raises(UsageError, match=f"--pretrained {nowhere}: no such file"):
            pretrained_weights(nowhere)
    with pytest.raises(UserError, match=f"--pretrained {bucket}/no.pth: is not there"):
        pretrained_weights(f"{bucket}/no.pth")
    with pytest.raises(UsageError, match=r"--pretrained gold://no\.pth: gold:// is no storage that is known here"):
        pretrained_weights("gold://no.pth")
