"""A trained run put to use: recordings in, emotions with their certainty out.

The package itself imports nothing: its command must start without the speech models' libraries.
"""
