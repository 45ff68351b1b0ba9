"""One file per data set; both packages open their images through these configs."""

from linear_eval.datasets.cars196 import Cars196Config
from linear_eval.datasets.cifar import Cifar10Config, Cifar100Config
from linear_eval.datasets.cub200 import Cub200Config
from linear_eval.datasets.dataset import DatasetSettings, ImageSplit
from linear_eval.datasets.domains import DomainsConfig
from linear_eval.datasets.given import GivenConfig
from linear_eval.datasets.hugging_face import HuggingFaceConfig
from linear_eval.datasets.image_folder import ImageFolderConfig
from linear_eval.datasets.imagenet_subset import ImagenetSubsetConfig
from linear_eval.datasets.imagenette import ImagenetteConfig
from linear_eval.datasets.in_shop import InShopConfig
from linear_eval.datasets.revisited import RevisitedConfig
from linear_eval.datasets.sop import SopConfig
from linear_eval.datasets.table import TableConfig
from linear_eval.datasets.textures import TexturesConfig
from linear_eval.datasets.tiny_imagenet import TinyImagenetConfig
from linear_eval.datasets.torchvision_sets import TorchvisionConfig

DatasetConfig = (
    TexturesConfig
    | ImageFolderConfig
    | Cifar10Config
    | Cifar100Config
    | ImagenetSubsetConfig
    | ImagenetteConfig
    | TinyImagenetConfig
    | InShopConfig
    | RevisitedConfig
    | DomainsConfig
    | Cub200Config
    | Cars196Config
    | SopConfig
    | TableConfig
    | TorchvisionConfig
    | HuggingFaceConfig
    | GivenConfig
)

__all__ = [
    "Cars196Config",
    "Cifar10Config",
    "Cifar100Config",
    "Cub200Config",
    "DatasetConfig",
    "DatasetSettings",
    "DomainsConfig",
    "GivenConfig",
    "HuggingFaceConfig",
    "ImageFolderConfig",
    "ImageSplit",
    "ImagenetSubsetConfig",
    "ImagenetteConfig",
    "InShopConfig",
    "RevisitedConfig",
    "SopConfig",
    "TableConfig",
    "TexturesConfig",
    "TinyImagenetConfig",
    "TorchvisionConfig",
]
