"""A trained run put to use: recordings in, emotions with their certainty out.

The package itself imports nothing: its command must start without the speech models' libraries.
"""

#: Seconds: longer recordings are no single utterance; they are cut into windows.
LONGEST_WHOLE = 15.0
#: Seconds of a window, and from one to the next, where none are given.
WINDOW, HOP = 4.0, 2.0
