"""A network for inference only: batch norms folded into the convolutions before them."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from dfdm_ray.models.dma_sta import DmaSta

_PAIRS = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("0", "1"))
"""Names of a convolution and its batch norm in torchvision's ResNets; the last is that of a shortcut."""


def fold_batch_norms(model: DmaSta) -> DmaSta:
    """Return a copy of ``model`` in eval mode without batch norms.

    With running statistics a batch norm is a product and a sum for each channel, which the convolution's
    weight and bias can do. Logits differ by rounding only.
    """
    folded: DmaSta = copy.deepcopy(model).eval()
    for module in list(folded.modules()):
        parts = dict(module.named_children())
        for conv, norm in _PAIRS:
            first, second = parts.get(conv), parts.get(norm)
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                setattr(module, conv, fuse_conv_bn_eval(first, second))
                setattr(module, norm, nn.Identity())
    return folded
