"""Tables of rows in files and pipes, and what their cells mean.

Read and written here and nowhere else: CSV with any separator and encoding, JSON, JSON lines, each
with gzip, Excel and Parquet. Nothing in here knows what the rows are for.
"""

from skllm_calib.utils.tables.cells import label_of, number_of, text_of, unpaired
from skllm_calib.utils.tables.files import (
    Table,
    check_format,
    read_table,
    write_rows,
    write_table,
)
from skllm_calib.utils.tables.pieces import TableFile, open_table

__all__ = [
    "Table",
    "TableFile",
    "check_format",
    "label_of",
    "number_of",
    "open_table",
    "read_table",
    "text_of",
    "unpaired",
    "write_rows",
    "write_table",
]
