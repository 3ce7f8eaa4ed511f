"""A local page on which a trained run judges recordings.

The package itself imports nothing: the page's library is an optional extra, and slow to import.
"""

#: Port of the page.
PORT = 7860
#: Of an upload: 2^20 bytes, as browsers count them, and seconds of sound.
MEGABYTES, SECONDS = 20.0, 120.0
