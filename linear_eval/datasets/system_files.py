"""What systems write beside the user's images: none of it is an image of the set, or worth a word.

The one list of such names, with who writes each. Names are compared as their system compares them:
Windows and macOS without regard to case, the others exactly.
"""

from __future__ import annotations

import re

_FOLDERS = {
    "@eaDir": "Synology: thumbnails and attributes",
    "#recycle": "Synology, Asustor, TerraMaster: recycle bin",
    "#snapshot": "Synology: snapshots",
    "@tmp": "Synology: unfinished transfers",
    "@sharebin": "Synology: recycle bin of a shared folder",
    "@Recycle": "QNAP: recycle bin",
    "@Recently-Snapshot": "QNAP: snapshots",
    "@Transcode": "QNAP: transcoded media",
    "~snapshot": "NetApp: snapshots, as Windows sees them",
    "lost+found": "ext2, ext3, ext4: what a check of the disk found",
}
_FOLDERS_OF_ANY_CASE = {
    "$recycle.bin": "Windows: recycle bin",
    "system volume information": "Windows: restore points",
    "__macosx": "macOS: attributes in a zip",
    "network trash folder": "macOS, Netatalk: recycle bin of a server",
    "temporary items": "macOS, Netatalk: unfinished files",
    "thevolumesettingsfolder": "macOS, Netatalk: settings of a volume",
    "thefindbycontentfolder": "macOS, Netatalk: search index",
}
_FOUND = re.compile(r"found\.\d{3}", re.IGNORECASE)  # Windows: what a check of the disk found
# Hidden folders, by how their names begin; in lower case, for most come from macOS or Windows.
_HIDDEN_FOLDERS = (
    ".appledouble",  # macOS, Netatalk: attributes
    ".appledb",
    ".appledesktop",
    ".documentrevisions-v100",  # macOS, on every volume
    ".fseventsd",
    ".spotlight-v100",
    ".temporaryitems",
    ".trash",  # Linux desktops (.Trash-1000), macOS (.Trashes)
    ".thumb",  # Android, Linux: thumbnails; QNAP's is .@__thumb
    ".@__thumb",
    ".@upload_cache",
    ".recycle",  # Samba, TrueNAS
    ".snapshot",  # NetApp, Btrfs, snapper
    ".zfs",
    ".wdmc",  # Western Digital: thumbnails
    ".picasaoriginals",  # Picasa: images before they were edited
    ".dropbox",
    ".sync",
    ".stfolder",
    ".stversions",
    ".cache",
    ".git",
    ".svn",
    ".hg",
    ".dvc",
    ".idea",
    ".vscode",
    ".venv",
    ".ipynb_checkpoints",
    ".kaggle",
    ".huggingface",
)
_FILES_OF_ANY_CASE = {
    "thumbs.db": "Windows: thumbnails",
    "ehthumbs.db": "Windows: thumbnails",
    "ehthumbs_vista.db": "Windows: thumbnails",
    "desktop.ini": "Windows: how a folder is shown",
    "picasa.ini": "Picasa: ratings",
    "icon\r": "macOS: the picture of a folder",
    "desktop db": "macOS: how a folder is shown",
    "desktop df": "macOS: how a folder is shown",
}
# macOS: attributes of the file of that name; Android: trash, unfinished; NFS, FUSE: deleted, open.
_HIDDEN_FILES = ("._", ".trashed-", ".pending-", ".nfs", ".fuse_hidden", ".smbdelete")
# What published data sets come with: of no interest to whoever reads them.
_PUBLISHED = re.compile(
    r"(readme|license|licence|copying|md5sums|sha256sums)(\.\w+)?"
    r"|val_annotations\.txt|n\d{8}_boxes\.txt|(wnids|words|synset_words)\.txt"  # Tiny-ImageNet
    r"|loc_\w+\.(txt|csv)|ilsvrc2012_\w+\.txt|noisy_imagenette\.csv",
    re.IGNORECASE,
)


def is_system_folder(name: str) -> bool:
    """Whether a system, or a tool such as git, wrote the folder."""
    if name.startswith("."):
        return name.lower().startswith(_HIDDEN_FOLDERS)
    return (
        name in _FOLDERS
        or name.lower() in _FOLDERS_OF_ANY_CASE
        or _FOUND.fullmatch(name) is not None
    )


def is_system_image(name: str) -> bool:
    """Whether a hidden file with the suffix of an image is none of the user's."""
    return name.lower().startswith(_HIDDEN_FILES)


def is_expected_beside_images(name: str) -> bool:
    """Whether a file that is no image is not worth mentioning."""
    return (
        name.startswith(".")
        or name.lower() in _FILES_OF_ANY_CASE
        or _PUBLISHED.fullmatch(name) is not None
    )
