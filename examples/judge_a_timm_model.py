"""What the features of a pretrained timm model are worth on one's own images; needs timm.

Run: python examples/judge_a_timm_model.py TRAIN TEST [NAME]

TRAIN and TEST are folders with one folder per class, the same classes in both.
"""

import sys

import linear_eval

train, test, name = [*sys.argv[1:], "resnet18.a1_in1k"][:3]
try:
    backbone = linear_eval.load(f"timm:{name}")
except linear_eval.InputError as error:  # timm is not installed, has no such model, ...
    sys.exit(str(error))
results = linear_eval.evaluate(
    backbone,
    train=train,
    test=test,
    evaluators=["knn", "linear_probe"],
    overrides={"knn.k": [5], "baselines": ["pixels"]},
)
for key in ("knn/k=5/top1", "linear_probe/top1"):
    low, high = results["intervals"][key]
    pixels = results["baselines"]["pixels"][key]
    print(
        f"{key}: {results['metrics'][key]:.1f} % ({low:.1f} to {high:.1f}), pixels {pixels:.1f} %"
    )
