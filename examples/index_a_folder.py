"""Which images of a folder are most like another one; needs faiss.

Run: python examples/index_a_folder.py BACKBONE FOLDER IMAGE [INDEX]

BACKBONE is a backbone file, such as `ssl-bf pretrain` writes; INDEX is where the index is kept.
"""

import sys
from pathlib import Path

import linear_eval

backbone, folder, image, kept = [*sys.argv[1:], "photos_index"][:4]
if Path(kept).exists():
    index = linear_eval.Index.open(kept)
else:
    index = linear_eval.Index.build(linear_eval.load(backbone), folder)
    index.save(kept)
for found in index.query(image, k=5):
    print(f"{found.rank}  {found.score:.3f}  {found.path}")
