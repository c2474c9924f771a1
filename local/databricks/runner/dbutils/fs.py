"""Moves files between the platform's file systems: `dbutils.fs`."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .paths import RootedPaths

__all__ = ["FileInfo", "FileSystems"]


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One entry of a folder; the names of folders end in a slash."""

    path: str
    name: str
    size: int
    modificationTime: int  # noqa: N815 - the platform's name; milliseconds

    def isDir(self) -> bool:  # noqa: N802
        """Say whether this is a folder."""
        return self.name.endswith("/")

    def isFile(self) -> bool:  # noqa: N802
        """Say whether this is a file."""
        return not self.isDir()


class FileSystems:
    """Local folders directly; every other scheme (abfss) through Hadoop, as Spark sees it."""

    def __init__(self, paths: RootedPaths, spark: Callable[[], Any]) -> None:
        self._paths = paths
        self._spark = spark

    def ls(self, dir: str) -> list[FileInfo]:  # noqa: A002 - the platform's argument names
        """Return the entries of a folder, sorted by name; of a file, the file."""
        place = self._paths.to_disk(dir)
        if place is None:
            hadoop, path = self._hadoop(dir)
            return sorted((_from_status(status) for status in hadoop.listStatus(path)), key=lambda info: info.name)
        if not place.exists():
            raise FileNotFoundError(f"No such file or directory {dir}")
        entries = sorted(place.iterdir()) if place.is_dir() else [place]
        parent = dir.rstrip("/") if place.is_dir() else dir.rstrip("/").rpartition("/")[0]
        return [_from_path(entry, parent if ":" in parent else f"dbfs:{parent}") for entry in entries]

    def head(self, file: str, maxBytes: int = 65536) -> str:  # noqa: N803
        """Return the start of a file as text."""
        place = self._paths.to_disk(file)
        if place is not None:
            with place.open("rb") as stream:
                return stream.read(maxBytes).decode("utf-8", errors="replace")
        hadoop, path = self._hadoop(file)
        stream = hadoop.open(path)
        try:
            # Java hands its own arrays over by value, so let a library of Spark's fill and return one.
            data = bytes(self._java()[0].org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()
        return data[:maxBytes].decode("utf-8", errors="replace")

    def put(self, file: str, contents: str, overwrite: bool = False) -> bool:
        """Write a text to a file."""
        place = self._paths.to_disk(file)
        if place is not None:
            if place.exists() and not overwrite:
                raise FileExistsError(f"The file {file} already exists, and overwrite is not set")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(contents, encoding="utf-8")
        else:
            hadoop, path = self._hadoop(file)
            if not overwrite and hadoop.exists(path):
                raise FileExistsError(f"The file {file} already exists, and overwrite is not set")
            stream = hadoop.create(path, overwrite)
            try:
                stream.write(bytearray(contents.encode("utf-8")))
            finally:
                stream.close()
        print(f"Wrote {len(contents.encode('utf-8'))} bytes.")  # noqa: T201 - as the platform
        return True

    def mkdirs(self, dir: str) -> bool:  # noqa: A002
        """Make a folder and its parents."""
        place = self._paths.to_disk(dir)
        if place is not None:
            place.mkdir(parents=True, exist_ok=True)
            return True
        hadoop, path = self._hadoop(dir)
        return bool(hadoop.mkdirs(path))

    def rm(self, dir: str, recurse: bool = False) -> bool:  # noqa: A002
        """Remove a file, or a folder if `recurse`; return whether there was something."""
        place = self._paths.to_disk(dir)
        if place is None:
            hadoop, path = self._hadoop(dir)
            return bool(hadoop.delete(path, recurse))
        if not place.exists():
            return False
        if not place.is_dir():
            place.unlink()
        elif recurse:
            shutil.rmtree(place)
        elif any(place.iterdir()):
            raise OSError(f"the folder {dir} is not empty: pass recurse=True")
        else:
            place.rmdir()
        return True

    def cp(self, source: str, to: str, recurse: bool = False) -> bool:
        """Copy a file, or a folder if `recurse`."""
        start, end = self._paths.to_disk(source), self._paths.to_disk(to)
        if start is None or end is None:
            return self._copy_by_hadoop(source, to, move=False)
        if start.is_dir():
            if not recurse:
                raise OSError(f"{source} is a folder: pass recurse=True")
            shutil.copytree(start, end, dirs_exist_ok=True)
            return True
        end = end / start.name if end.is_dir() else end
        end.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(start, end)
        return True

    def mv(self, source: str, to: str, recurse: bool = False) -> bool:
        """Move a file, or a folder if `recurse`: a copy and a removal, as on the platform."""
        if self._paths.to_disk(source) is None or self._paths.to_disk(to) is None:
            return self._copy_by_hadoop(source, to, move=True)
        return self.cp(source, to, recurse) and self.rm(source, recurse)

    def mounts(self) -> list[Any]:
        """Return the mounts: there are none."""
        return []

    def mount(self, *_: Any, **__: Any) -> bool:
        """Refuse: mounts are a legacy of the platform that the local one does without."""
        raise NotImplementedError("dbutils.fs.mount is not implemented locally: use abfss:// paths")

    def unmount(self, *_: Any, **__: Any) -> bool:
        """Refuse, see `mount`."""
        raise NotImplementedError("dbutils.fs.unmount is not implemented locally: use abfss:// paths")

    def _copy_by_hadoop(self, source: str, to: str, *, move: bool) -> bool:
        (start_fs, start), (end_fs, end) = self._hadoop(source), self._hadoop(to)
        jvm, configuration = self._java()
        return bool(jvm.org.apache.hadoop.fs.FileUtil.copy(start_fs, start, end_fs, end, move, True, configuration))

    def _hadoop(self, path: str) -> tuple[Any, Any]:
        """Return Hadoop's file system for a path, and the path as Hadoop's."""
        place = self._paths.to_disk(path)
        jvm, configuration = self._java()
        hadoop_path = jvm.org.apache.hadoop.fs.Path(path if place is None else place.as_uri())
        return hadoop_path.getFileSystem(configuration), hadoop_path

    def _java(self) -> tuple[Any, Any]:
        """Return the JVM and Spark's Hadoop configuration."""
        spark = self._spark()
        return spark._jvm, spark._jsc.hadoopConfiguration()  # noqa: SLF001 - PySpark's only way to the JVM


def _from_path(entry: Path, parent: str) -> FileInfo:
    status = entry.stat()
    slash = "/" if entry.is_dir() else ""
    name = f"{entry.name}{slash}"
    size = 0 if slash else status.st_size
    return FileInfo(f"{parent.rstrip('/')}/{name}", name, size, int(status.st_mtime * 1000))


def _from_status(status: Any) -> FileInfo:
    slash = "/" if status.isDirectory() else ""
    path = status.getPath()
    return FileInfo(
        f"{path.toString()}{slash}", f"{path.getName()}{slash}", status.getLen(), status.getModificationTime()
    )
