from plyvel._plyvel import (
    DB as DB,
    CorruptionError as CorruptionError,
    Error as Error,
    IOError as IOError,
    IteratorInvalidError as IteratorInvalidError,
    destroy_db as destroy_db,
    repair_db as repair_db,
)

__version__: str
__leveldb_version__: str
