"""Base classes of the face-swap autoencoders: shared parts, and one part for each of two identities.

Side ``a`` is the person in the video (DFDM's first identity); side ``b`` is the person whose face is put in.
"""

from typing import ClassVar, Literal

from torch import Tensor, nn

Side = Literal["a", "b"]

SIDES: tuple[Side, Side] = ("a", "b")


class SwapAutoencoder(nn.Module):
    """An autoencoder for the faces of two identities.

    Training calls ``forward(faces_of_a, "a")`` and ``forward(faces_of_b, "b")``; the swap, b's face with a's
    expression, is ``forward(faces_of_a, "b")``.
    """

    input_size: ClassVar[int]
    """Side of the input faces, pixels."""
    output_size: ClassVar[int]
    """Side of the output faces, pixels."""

    own: nn.ModuleDict
    """The part of each side; all other parts are shared."""

    def reconstruct(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Run the network; subclasses implement it."""
        raise NotImplementedError

    def forward(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Return the faces drawn as the identity of ``side``.

        Args:
            faces_BCHW: Shape ``(B, 3, input_size, input_size)``, RGB, 0..1.
            side: Identity to draw.

        Returns:
            Shape ``(B, 3, output_size, output_size)``, RGB, 0..1.

        Raises:
            ValueError: If the faces have another shape or ``side`` is neither ``"a"`` nor ``"b"``.
        """
        size = self.input_size
        if faces_BCHW.shape[1:] != (3, size, size):
            raise ValueError(f"faces must have shape (B, 3, {size}, {size}), got {tuple(faces_BCHW.shape)}")
        if side not in SIDES:
            raise ValueError(f"side must be 'a' or 'b', got {side!r}")
        return self.reconstruct(faces_BCHW, side)


class TwoDecoders(SwapAutoencoder):
    """One shared encoder and a decoder for each identity: every generator but IAE.

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
