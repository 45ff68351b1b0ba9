"""How a backbone is pretrained: contrastive methods, and relations inside a batch."""

from linear_eval import __version__ as __version__
