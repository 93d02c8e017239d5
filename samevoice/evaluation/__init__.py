"""Error rates and calibration, from arrays of scores: nothing here knows of models or files."""
