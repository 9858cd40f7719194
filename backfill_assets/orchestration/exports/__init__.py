"""Assets that write bars to files. How files are made is in `pipelines/export.py`."""
