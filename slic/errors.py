"""Errors that slic raises on purpose.

SlicError
├── InputError            wrong usage or input: exit code 2
│   ├── DatasetError      a data set folder, csv or split list
│   ├── StoreError        a clip store
│   │   └── NewerFormatError  a clip store that a newer slic wrote
│   ├── CacheError        an embedding cache
│   ├── SettingsError     a preset, config file or option
│   ├── CheckpointError   a checkpoint or run folder
│   └── LabelsMissing     labels where labels are needed
└── WorkError             correct input, but the work failed: exit code 1
    ├── DecodeError       a video that no reader can decode
    ├── DamagedChunk      stored bytes that fail their checksum
    └── DiskError         a file system that is full, read-only, gone, or out of open files

Each message is one line: what is wrong, in which file or video, and what to do.
"""


class SlicError(Exception):
    """Base of all errors that slic raises on purpose."""

    exit_code = 1  # of the command line


class InputError(SlicError):
    """Usage or input is wrong."""

    exit_code = 2


class DatasetError(InputError):
    """A data set folder, csv or split list cannot be used."""


class StoreError(InputError):
    """A clip store is missing, not a store, newer than this version, or lacks what is needed."""


class NewerFormatError(StoreError):
    """A newer version of slic wrote the clip store."""


class CacheError(InputError):
    """An embedding cache is missing, not a cache, or damaged."""


class SettingsError(InputError):
    """A preset, config file or option has an unknown key or an impossible value."""


class CheckpointError(InputError):
    """A checkpoint or run folder is missing, damaged, or does not fit."""


class LabelsMissing(InputError):
    """Labels are needed, and the store or cache has none."""


class WorkError(SlicError):
    """The input is correct, but the work failed."""


class DecodeError(WorkError):
    """No reader can decode a video."""


class DamagedChunk(WorkError):
    """Stored bytes fail their checksum or cannot be decoded."""


class DiskError(WorkError):
    """A file system is full, read-only or gone, or refuses to open more files."""
