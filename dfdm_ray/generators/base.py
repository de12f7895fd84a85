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

    def forward(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Return the faces drawn as the identity of ``side``: RGB, 0..1, squares of the sizes above."""
        raise NotImplementedError


class TwoDecoders(SwapAutoencoder):
    """One shared encoder and a decoder for each identity: every generator but IAE.

    Keys: ``encoder``, ``own.a``, ``own.b``.
    """

    def __init__(self, *, encoder: nn.Module, decoder_a: nn.Module, decoder_b: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.own = nn.ModuleDict({"a": decoder_a, "b": decoder_b})

    def forward(self, faces_BCHW: Tensor, side: Side) -> Tensor:
        """Encode, then decode as ``side``."""
        out: Tensor = self.own[side](self.encoder(faces_BCHW))
        return out
