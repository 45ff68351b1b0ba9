"""A backbone as an ONNX graph, and ONNX graphs run for comparison."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linear_eval.backbones.backbone_header import BackboneInfo
from linear_eval.system.errors import InputError

INPUT, OUTPUT = "images", "features"


def onnx_bytes(backbone: nn.Module, info: BackboneInfo) -> bytes:
    """The graph: normalised images (N, 3, H, W) float32 -> features (N, D), any N >= 1.

    H = W = `info.image_size`. What `info` says is in the model's metadata under the key `backbone`.

    Args:
        backbone: on the CPU, in eval mode.
        info: of the backbone.

    Raises:
        InputError: onnx or onnxscript is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"--format: onnx needs a package that cannot be imported ({error}); "
            "install the extra: pip install 'ssl-bf[onnx]'"
        ) from error
    # 3: torch.export takes a first dimension of 1 for a constant
    example = torch.zeros(3, 3, info.image_size, info.image_size)
    with contextlib.redirect_stdout(io.StringIO()):  # the exporter tells its steps there
        program = torch.onnx.export(
            backbone,
            (example,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _forget_the_tracing(model)
    model.metadata_props.add(key="backbone", value=json.dumps(asdict(info)))
    data: bytes = model.SerializeToString()
    return data


def _forget_the_tracing(model: Any) -> None:
    """Drop remarks on how each part was traced: they hold paths of this machine."""
    for graph in (model.graph, *model.functions):
        parts = [graph, *graph.node, *graph.value_info]
        if graph is model.graph:
            parts += [*graph.input, *graph.output, *graph.initializer]
        for part in parts:
            part.ClearField("metadata_props")
            part.ClearField("doc_string")


def run_onnx(path: Path, images: Tensor) -> Tensor:
    """Features (N, D) of normalised images (N, 3, H, W), by onnxruntime, else by onnx itself."""
    inputs = {INPUT: images.numpy()}
    try:
        import onnxruntime
    except ImportError:  # optional: onnx's own evaluator gives the same numbers, slowly
        from onnx.reference import ReferenceEvaluator

        outputs: Any = ReferenceEvaluator(str(path)).run([OUTPUT], inputs)
        return torch.as_tensor(outputs[0])
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.as_tensor(session.run([OUTPUT], inputs)[0])
