"""Where the feature store's Parquet files are: below the data root, a local folder or any ``pyarrow.fs`` URI."""

from __future__ import annotations

import uuid

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from django.conf import settings


def below_root(relative: str) -> str:
    """The path or URI of something below the data root, for an engine."""
    return f"{str(settings.DATA_ROOT).rstrip('/')}/{relative}"


def is_below_root(relative: str) -> bool:
    """Whether ``relative`` can only mean something below the data root."""
    parts = relative.split("/")
    return bool(relative) and "://" not in relative and "\\" not in relative and "" not in parts and ".." not in parts


def write_once(relative: str, table: pa.Table) -> None:
    """Write a Parquet file whose name says its content; nothing happens when it is already there.

    A reader never sees half a file: it gets its name when it is complete.
    """
    filesystem, path = _located(relative)
    if not filesystem.get_file_info(path).is_file:
        _write(filesystem, path, table)


def replace(relative: str, table: pa.Table) -> None:
    """Write a Parquet file, in one step in place of the one that is there."""
    _write(*_located(relative), table)


def _write(filesystem: pafs.FileSystem, path: str, table: pa.Table) -> None:
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)
    unfinished = f"{path}.{uuid.uuid4().hex}.unfinished"
    pq.write_table(table, unfinished, filesystem=filesystem, compression="zstd")
    filesystem.move(unfinished, path)


def read(relative: str) -> pa.Table:
    """The table of a file that ``write_once`` wrote.

    Raises OSError when the file is gone, pyarrow.ArrowInvalid when it is not Parquet.
    """
    filesystem, path = _located(relative)
    with filesystem.open_input_file(path) as file:
        return pq.ParquetFile(file).read()


def names_in(relative: str) -> list[str]:
    """The names of what a folder holds, sorted; none where there is no such folder. Unfinished files are left out."""
    filesystem, path = _located(relative)
    inside = filesystem.get_file_info(pafs.FileSelector(path, allow_not_found=True))
    return sorted(each.base_name for each in inside if not each.base_name.endswith(".unfinished"))


def delete_folder(relative: str) -> None:
    """Delete a folder with all that it holds. Raises OSError when it is gone already."""
    filesystem, path = _located(relative)
    filesystem.delete_dir(path)


def _located(relative: str) -> tuple[pafs.FileSystem, str]:
    location = below_root(relative)
    if "://" not in location:
        return pafs.LocalFileSystem(), location
    filesystem, path = pafs.FileSystem.from_uri(location)
    return filesystem, path
