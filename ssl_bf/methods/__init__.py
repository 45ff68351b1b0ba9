"""One file per method; each reads like the algorithm box of its paper."""

from ssl_bf.methods.classifier import ClassifierConfig
from ssl_bf.methods.metric import MetricConfig
from ssl_bf.methods.moco_v2 import MoCoV2Config
from ssl_bf.methods.moco_v3 import MoCoV3Config
from ssl_bf.methods.paco import PaCoConfig
from ssl_bf.methods.simsiam import SimSiamConfig

MethodConfig = (
    MoCoV2Config | MoCoV3Config | SimSiamConfig | ClassifierConfig | MetricConfig | PaCoConfig
)

__all__ = ["MethodConfig"]
