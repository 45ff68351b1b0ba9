"""One file per batch relation: modules through which the samples of a batch see each other."""

from ssl_bf.relations.batchformer import BatchFormerConfig
from ssl_bf.relations.batchformer_v2 import BatchFormerV2Config
from ssl_bf.relations.bgformer import BGFormerConfig
from ssl_bf.relations.controls import CopyConfig, DropoutOnlyConfig, SelfOnlyConfig, UniformConfig
from ssl_bf.relations.foreign import ForeignConfig
from ssl_bf.relations.nearest_keys import NearestKeysConfig
from ssl_bf.relations.no_relation import NoRelationConfig

RelationConfig = (
    NoRelationConfig
    | BatchFormerConfig
    | BatchFormerV2Config
    | BGFormerConfig
    | CopyConfig
    | DropoutOnlyConfig
    | SelfOnlyConfig
    | UniformConfig
    | ForeignConfig
    | NearestKeysConfig
)

__all__ = ["RelationConfig"]
