"""What every face-swap autoencoder is: shared parts, and one part that each of two identities owns.

Side ``a`` is the person in the video (DFDM's first identity), side ``b`` the one whose face is put in.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

from torch import Tensor, nn

Side = Literal["a", "b"]

SIDES: tuple[Side, Side] = ("a", "b")


class SwapAutoencoder(nn.Module):
    """An autoencoder for the faces of two identities.

    Training asks for ``forward(faces_of_a, side="a")`` and ``forward(faces_of_b, side="b")``; the swap,
    b's face with a's expression, is ``forward(faces_of_a, side="b")``.
    """

    input_size: ClassVar[int]
    """Height and width of the faces that go in, pixels."""
    output_size: ClassVar[int]
    """Height and width of the faces that come out, pixels."""

    own: nn.ModuleDict
    """The part that each side owns, by side; all other parts are shared."""

    def reconstruct(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Run the network; what a subclass has to say."""
        raise NotImplementedError

    def forward(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Return faces redrawn as the identity of ``side``.

        Args:
            faces_BCHW: Faces, shape ``(B, 3, input_size, input_size)``, RGB, 0..1.
            side: Whose own part to use.

        Returns:
            Shape ``(B, 3, output_size, output_size)``, 0..1.

        Raises:
            ValueError: If the faces have another size or ``side`` is neither ``"a"`` nor ``"b"``.
        """
        expected = (3, self.input_size, self.input_size)
        if faces_BCHW.shape[1:] != expected:
            raise ValueError(f"faces must have shape (B, {expected}), got {tuple(faces_BCHW.shape)}")
        if side not in SIDES:
            raise ValueError(f"side must be 'a' or 'b', got {side!r}")
        return self.reconstruct(faces_BCHW, side)

    def side_parameters(self, side: Side) -> Iterator[nn.Parameter]:
        """Return the parameters that only ``side`` owns."""
        return self.own[side].parameters()

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters that both sides use."""
        return (value for name, value in self.named_parameters() if not name.startswith("own."))


class TwoDecoders(SwapAutoencoder):
    """One encoder for both identities and a decoder for each; all but IAE are so.

    Keys: ``encoder``, ``own.a``, ``own.b``.
    """

    def __init__(self, *, encoder: nn.Module, decoder_a: nn.Module, decoder_b: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.own = nn.ModuleDict({"a": decoder_a, "b": decoder_b})

    def reconstruct(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Encode, then decode as ``side``."""
        out: Tensor = self.own[side](self.encoder(faces_BCHW))
        return out
