"""Model files as somebody else might write them: whole, with checksums that fit, and with other contents."""

import json

from safetensors import safe_open

from undertow.estimators import saved_file


def parts(path):
    """Header and arrays of a model file."""
    with safe_open(str(path), framework="numpy") as file:
        header = json.loads(file.metadata()["undertow"])
        del header["sha256"], header["arrays"]
        return header, {name: file.get_tensor(name) for name in list(file.keys())}


def forge(path, change_header=None, change_arrays=None):
    """Write the file again with another header or other arrays."""
    header, arrays = parts(path)
    if change_header is not None:
        change_header(header)
    if change_arrays is not None:
        change_arrays(arrays)
    path.write_bytes(saved_file.to_bytes(header, arrays))
