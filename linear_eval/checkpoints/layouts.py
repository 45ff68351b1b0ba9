"""The names that other people's checkpoints give to a backbone's tensors: data only.

A tensor's full name is its path in the file: `state_dict/module.encoder_q.layer1.0.conv1.weight` is

    container    state_dict/          which dict of the file
    wrapper      module.              left by DistributedDataParallel, torch.compile or a trainer
    prefix       encoder_q.           of a `Layout`: the encoder that is taken
    dialect      layer1.0.conv1...    how the library names the tensors inside

All patterns are regular expressions that must fit from the start of what they are applied to.
Where a suite keeps two encoders, the one is taken that its own evaluation judges (MoCo: the query
encoder; DINO and lightly's benchmarks: the slow one).

Source: the state_dicts of the published code.
"""

from __future__ import annotations

from dataclasses import dataclass, field

CONTAINERS = r"((state_dict|model|model_state_dict|module|network|net|weights|checkpoint)/)*"
"""Dicts in which a state_dict may lie, in any order and depth."""
AVERAGED = (
    r"((state_dict|model|checkpoint)/)*"
    r"(ema|model_ema|ema_model|module_ema|params_ema|state_dict_ema|ema_state_dict|ema_weights|"
    r"teacher)/((state_dict|module|model)/)*"
)
"""Likewise of averaged weights, which are read where a file has no others."""

Groups = dict[str, str]
"""Name of a group of tensors that are no part of the backbone -> pattern."""


@dataclass(frozen=True)
class Layout:
    """Where one suite keeps the backbone, and what else it saves beside it.

    Attributes:
        name: for people.
        prefix: of the backbone's tensors.
        inside: groups that share the prefix (the pattern begins after it), such as a classifier.
        beside: groups that do not (the pattern begins after the wrapper).
        containers: where its state_dict may lie, a pattern of the whole path.
        refuses: suffix of an architecture -> why this suite's weights do not fit it.
    """

    name: str
    prefix: str
    inside: Groups = field(default_factory=dict)
    beside: Groups = field(default_factory=dict)
    containers: str = CONTAINERS
    refuses: dict[str, str] = field(default_factory=dict)


_LIGHTLY: Groups = {
    "projector": r"projection_(head|mlp)\.",
    "predictor": r"prediction_(head|mlp)\.",
    "momentum encoder": r"(momentum_backbone|backbone_momentum|teacher_backbone)\.",
    "momentum projector": r"(momentum_projection_head|projection_head_momentum|teacher_head)\.",
    "query or student encoder": r"(query|student)_backbone\.",
    "query or student projector": r"(query_projection_head|student_(projection_)?head)\.",
    "loss state and memory bank": r"(criterion|memory_bank|criterion_\w+)\.",
    "online classifier": r"(online_classifier|classification_head)\.",
    "k-NN feature bank": r"(feature_bank|targets_bank|_train_features|_train_targets)$",
    "mask token": r"(backbone\.)?mask_token$",
}
_BATCHFORMER: Groups = {"BatchFormer, listed twice": r"encoder_global\."}
_CLASSIFIER: Groups = {
    "classifier": r"(_?fc|head|heads\.head|head\.fc|classifier|linear)\.(weight|bias)$"
}

LAYOUTS = (
    Layout(
        "official MoCo v1/v2",
        "encoder_q.",
        inside={"projector": r"fc\."},
        beside={"momentum encoder": r"encoder_k\.", "queue": r"queue(_ptr)?$"} | _BATCHFORMER,
    ),
    Layout(
        "official MoCo v3",
        "base_encoder.",
        inside={"projector": r"(fc|head)\."},
        beside={"momentum encoder": r"momentum_encoder\.", "predictor": r"predictor\."}
        | _BATCHFORMER,
    ),
    Layout(
        "official SimSiam",
        "encoder.",
        inside={"projector": r"fc\."},
        beside={"predictor": r"predictor\."} | _BATCHFORMER,
    ),
    Layout("DINO (teacher)", "backbone.", beside={"projector": r"head\."}, containers=r"teacher/"),
    Layout("backbone. and nothing beside it", "backbone."),
    Layout("lightly", "backbone.", beside=_LIGHTLY),
    Layout("lightly (masked vision transformer)", "backbone.vit.", _CLASSIFIER, beside=_LIGHTLY),
    Layout("lightly (teacher)", "teacher_backbone.", beside=_LIGHTLY),
    Layout(
        "lightly (masked vision transformer, teacher)",
        "teacher_backbone.vit.",
        _CLASSIFIER,
        beside=_LIGHTLY | {"mask token": r"teacher_backbone\.mask_token$"},
    ),
    *(
        Layout(
            "solo-learn",
            prefix,
            beside={
                "projector": r"projector\.",
                "predictor": r"predictor\.",
                "DINO head": r"(momentum_)?head\.",
                "momentum encoder": r"momentum_(backbone|encoder)\.",
                "momentum projector": r"momentum_projector\.",
                "online classifier": r"(momentum_)?classifier\.",
                "queue": r"queue(_ptr|_y)?$",
                "prototypes": r"prototypes\.",
                "loss state": r"dino_loss_func\.",
            },
            refuses={
                "_cifar": "solo-learn pads the first convolution of its CIFAR ResNets by 2, so "
                "{architecture} would not compute the same; use --architecture "
                "{architecture}_padding2"
            },
        )
        for prefix in ("backbone.", "encoder.")  # encoder: until 2022
    ),
    Layout(
        "mmpretrain / mmselfsup",
        "backbone.",
        beside={
            "projector": r"neck\.",
            "classifier or predictor": r"head\.",
            "momentum encoder": r"(encoder_k|momentum_encoder|target_net|teacher)\.",
            "query encoder, listed twice": r"encoder_q\.",
            "queue": r"queue(_ptr)?$",
            "normalisation of the images": r"data_preprocessor\.",
        },
    ),
    Layout("torchvision, timm, DINO or extracted", "", _CLASSIFIER),
    Layout(
        "official SwAV / DeepCluster-v2",
        "",
        inside={"projector": r"projection_head\.", "prototypes": r"prototypes\."},
    ),
    Layout("vissl", "_feature_blocks.", containers=r"(classy_state_dict/base_model/model/trunk/)?"),
    *(
        Layout(
            f"{prefix} and perhaps a classifier",
            prefix,
            inside=_CLASSIFIER,
            beside={"classifier": r"(fc|head|classifier|linear)\.(\d+\.)?(weight|bias)$"},
        )
        for prefix in ("encoder.", "feature_extractor.", "base_model.", "timm_model.", "resnet.")
    ),
)
"""In this order: of several layouts that find the same tensors, the first gives the name."""

ELSEWHERE: Groups = {
    "optimiser": r"(optimizer|optimizer_states|optimizers|optim)/",
    "schedules": r"((lr_|param_)?schedulers?|lr_schedule)/",
    "loss scaler": r"((loss_|fp16_|grad_|amp_)?scaler|amp|amp_scaling_state)/",
    "averaged weights (EMA)": r"(state_dict_ema|model_ema|ema_state_dict|ema)/",
    "student": r"student/",
    "heads": r"classy_state_dict/base_model/model/heads/",
    "loss state": r"(dino_loss|loss|criterion)/",
    "training state": r"(callbacks|loops|args|meta|message_hub|hyper_parameters|rng_state|random)/",
    "counters": r"(best_acc1?|epoch|global_step|iteration|step|loss)$",
}
"""What whole training checkpoints hold beside the state_dict; the patterns take the full name."""
