"""Everything slic raises on purpose.

SlicError
├── InputError            wrong usage or input: exit code 2
│   ├── DatasetError      a data set folder, csv or split list
│   ├── StoreError        a clip store
│   │   └── NewerFormatError  a clip store of a newer slic
│   ├── CacheError        an embedding cache
│   ├── SettingsError     a preset, config file or option
│   ├── CheckpointError   a checkpoint or run folder
│   └── LabelsMissing     labels where labels are needed
└── WorkError             work that failed: exit code 1
    ├── DecodeError       a video that no reader can decode
    ├── DamagedChunk      stored bytes that fail their checksum
    └── DiskError         a file system that is full, read-only, gone, or out of open files

Each message is one line: what is wrong, in which file or video, what to do.
"""


class SlicError(Exception):
    """Base of all errors that slic raises on purpose; `exit_code` is the CLI's."""

    exit_code = 1


class InputError(SlicError):
    """Wrong usage or input."""

    exit_code = 2


class DatasetError(InputError):
    """A data set folder, csv or split list cannot be used as it is."""


class StoreError(InputError):
    """A clip store is missing, foreign, newer than this version, or lacks what is asked for."""


class NewerFormatError(StoreError):
    """A clip store was written by a newer version."""


class CacheError(InputError):
    """An embedding cache is missing, foreign or damaged."""


class SettingsError(InputError):
    """A preset, config file or option holds an unknown key or an impossible value."""


class CheckpointError(InputError):
    """A checkpoint or run folder is missing, damaged or of another encoder."""


class LabelsMissing(InputError):
    """Labels are needed, and the store or cache has none."""


class WorkError(SlicError):
    """Work that was asked for rightly and failed."""


class DecodeError(WorkError):
    """No reader can decode a video."""


class DamagedChunk(WorkError):
    """Stored bytes fail their checksum or do not decode."""


class DiskError(WorkError):
    """A file system is full, read-only or gone, or refuses to open more files."""
