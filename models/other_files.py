"""What a file is that was given for an ONNX one, by how it begins, and what its owner can do."""

from __future__ import annotations

_EXPORT = "export the network to ONNX"
_ENGINE = "it is an engine of TensorRT, which fits one GPU only: give the ONNX file that it was built from"
_BEGINNINGS = (
    (0, b"PK\x03\x04", f"it is a zip archive, such as PyTorch's .pt files and Keras's: {_EXPORT}"),
    (0, b"\x80\x02", f"it is a pickle, such as PyTorch's older .pt files: {_EXPORT}"),
    (0, b"version https://git-lfs", "it is a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`"),
    (4, b"TFL3", f"it is a network of TensorFlow Lite: {_EXPORT}, e.g. with tf2onnx"),
    (0, b"\x89HDF", f"it is an HDF5 file, such as Keras's: {_EXPORT}, e.g. with tf2onnx"),
    (0, b"ftrt", _ENGINE),
    (0, b"\x1f\x8b", "it is compressed with gzip: unpack it first"),
    (0, b"<?xml", f"it is XML, such as OpenVINO's: {_EXPORT}"),
    (0, b"<", "it is a web page, as a download leaves it that needs a login: fetch the file itself"),
    (0, b"{", "it is JSON, perhaps what a server said in place of the file"),
    (4, b'{"', _ENGINE),  # Ultralytics', behind four bytes of length
)


def described(data: bytes) -> str:
    """What the bytes look like, and what to do; empty where nobody knows."""
    if not data:
        return "the file is empty"
    start = data[:64].lstrip()
    for offset, beginning, words in _BEGINNINGS:
        if data.startswith(beginning, offset) or (not offset and start.startswith(beginning)):
            return words
    return ""
