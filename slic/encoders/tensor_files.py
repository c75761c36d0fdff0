"""Files of tensors, read without running code from them."""

import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from slic.errors import CheckpointError
from slic.runtime.disk import atomic_write
from slic.runtime.regular_files import brief, check_regular
from slic.runtime.text import escape

State = dict[str, Tensor]

_ARCHIVE = b"PK\x03\x04"


class _Unread:
    """Stands for a NumPy value in a file: its bytes are dropped, and no NumPy code sees them."""

    __slots__ = ()

    def __new__(cls, *_parts: object) -> "_Unread":
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        pass


# What an accuracy kept as a NumPy number, or a table of them, is pickled as, by NumPy 1 and 2.
_NUMPY: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_Unread, name)
    for name in (
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.core.multiarray.scalar",
        "numpy.core.multiarray._reconstruct",
        "numpy._core.multiarray.scalar",
        "numpy._core.multiarray._reconstruct",
    )
]


def read_pickled(path: str | os.PathLike[str]) -> Any:
    """What `torch.save` wrote: tensors, numbers and text, in dicts, lists and tuples.

    NumPy numbers and arrays are let pass, unread.

    Raises:
        CheckpointError: missing, damaged, or it holds other objects, none of which is made.
    """
    try:
        check_regular(path)
        _check_archive(path)
        with torch.serialization.safe_globals(_NUMPY), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused later
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    # torch raises many kinds for damaged or foreign files, pickle's and zip's among them.
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint ({_reason(error)})") from None


def _check_archive(path: str | os.PathLike[str]) -> None:
    """Refuse an archive that fails its checksums, which torch does not compare, or that inflates.

    Files of PyTorch before 1.6 are no archives, and have no checksums.
    """
    with open(path, "rb") as file:
        if file.read(4) != _ARCHIVE:
            return
        with zipfile.ZipFile(file) as archive:
            parts = archive.infolist()
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise RuntimeError("a compressed archive, as torch.save writes none")
            if sum(part.file_size for part in parts) > os.fstat(file.fileno()).st_size:
                raise RuntimeError("an archive whose parts overlap")
            if archive.testzip() is not None:
                raise zipfile.BadZipFile


def _reason(error: Exception) -> str:
    said = str(error)
    if held := re.search(r"GLOBAL (\S+)", said):
        return (
            f"it holds {escape(held[1][:80])}, and slic reads only tensors, numbers and text: save"
            " its state dict alone"
        )
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, zipfile.BadZipFile):
        return "damaged: its checksums fail"
    if isinstance(error, pickle.UnpicklingError | EOFError | LookupError | ValueError):
        return "no file that torch.save has written, or a damaged one"
    return escape(said.splitlines()[0][:120]) if said else type(error).__name__


def read_safetensors(path: str | os.PathLike[str]) -> State:
    """Tensors by name from a `.safetensors` file.

    Raises:
        CheckpointError: missing, damaged, or the package safetensors is not installed.
    """
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise CheckpointError(
            f"{path}: reading it needs the package safetensors, which is not installed"
        ) from None
    try:
        check_regular(path)
        return load_file(path)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    # safetensors raises a kind of its own, which derives from Exception alone.
    except Exception as error:
        raise CheckpointError(f"{path}: not a checkpoint ({_reason(error)})") from None


def state_dict_in(content: Any, *, where: str) -> State:
    """The state dict that a file's content is, or holds as `state_dict`.

    Raises:
        CheckpointError: there is none, or it holds something else than dense tensors.
    """
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise CheckpointError(f"{where}: holds no state dict")
    foreign = [brief(key).strip("'") for key, value in content.items() if not is_weight(key, value)]
    if foreign:
        raise CheckpointError(
            f"{where}: no state dict, as not all in it are tensors ({some(foreign)}): save the"
            " network's state_dict() alone"
        )
    return content


def is_weight(key: Any, value: Any) -> bool:
    """Whether an entry of a state dict is a name and a dense tensor."""
    if not isinstance(key, str) or type(value) not in (Tensor, Parameter):
        return False
    dense = value.layout is torch.strided and not value.is_nested
    return dense and not value.is_quantized and not value.is_meta


def some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def save_whole(path: Path, content: dict[str, Any]) -> None:
    """Write aside, sync, and rename into place; of tensors and plain values alone.

    Raises:
        DiskError: the file system refuses; what was there before stays.
    """
    with atomic_write(path) as file:
        torch.save(content, file)
