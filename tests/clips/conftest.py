import pytest


@pytest.fixture(autouse=True)
def _a_scripted_face_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scripted detector says where faces are, whatever the pictures show."""
    monkeypatch.setattr("dfdm_ray.faces.tracks.followed", lambda *_: None)
