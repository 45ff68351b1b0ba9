"""Checkpoints that are recognised but not read: what they are, and what to do instead."""

from __future__ import annotations

import re

from torch import Tensor

_NOT_READ = {
    r".*_flat_param": "FSDP's flat pieces of parameters; gather them where the model was trained: "
    "with FSDP.state_dict_type(model, StateDictType.FULL_STATE_DICT): "
    "torch.save(model.state_dict(), FILE)",
    r"student/": "a student, which its suite does not judge, and no teacher; if you mean it, save "
    'it alone: import torch; torch.save(torch.load(FILE, map_location="cpu")["student"], OUT)',
    r"student\.": "a student and no teacher; save the tensors of the one you mean alone",
    r"(vit\.|dinov2\.)?embeddings\.(cls_token|patch_embeddings)": "Hugging Face's vision "
    "transformer, whose query, key and value are apart; give timm's file of the same weights",
}


def not_read(tensors: dict[str, Tensor]) -> str | None:
    """What it is and the way out, for a checkpoint of a known kind that is not read, else None."""
    if any(name.startswith("module/") and not tensor.numel() for name, tensor in tensors.items()):
        return (
            "what DeepSpeed's ZeRO-3 keeps beside the weights, which lie in pieces in its folder; "
            "join them there: python zero_to_fp32.py . pytorch_model.bin"
        )
    has_teacher = any(re.match(r"teacher[/.]", name) for name in tensors)
    for pattern, what in _NOT_READ.items():
        if pattern.startswith("student") and has_teacher:
            continue
        if any(re.match(pattern, name) for name in tensors):
            return what
    return None
