"""BatchFormer in one's own training loop, with the views, the head and the loss of lightly.

Run: python examples/own_loop_with_lightly.py FOLDER [EPOCHS] [BATCH_SIZE]
"""

import sys

import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms import SimCLRTransform
from torch.utils.data import DataLoader
from torchvision.models import resnet18

import linear_eval
import ssl_bf

folder, epochs, batch_size = [*sys.argv[1:], "1", "64"][:3]
images = LightlyDataset(folder, transform=SimCLRTransform(input_size=64))
loader = DataLoader(images, int(batch_size), shuffle=True, drop_last=True)
backbone = resnet18()
backbone.fc = torch.nn.Identity()
relate = ssl_bf.BatchFormer(width=512, context=int(batch_size) // 2)
head = SimCLRProjectionHead(512, 512, 128)
contrast = NTXentLoss(temperature=0.2)
parameters = [each for part in (backbone, relate, head) for each in part.parameters()]
optimizer = torch.optim.SGD(parameters, lr=0.06, momentum=0.9, weight_decay=5e-4)
for epoch in range(int(epochs)):
    for (view_1, view_2), _, _ in loader:
        queries, keys = relate(backbone(view_1)), head(backbone(view_2))  # (2, N, 512); plain
        loss = torch.stack([contrast(head(stream), keys) for stream in queries]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}")
mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # as lightly's views have them
trained = linear_eval.load(backbone, mean=mean, std=std, size=64)
print(linear_eval.quality(trained.features(folder)))
